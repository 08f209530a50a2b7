// Package byos is for tests: its init starts a process by package os, if the environment asks for it. Its path comes before that
// of package inherited, whose init has to have run all the same: package os is initialised later.
package byos

import (
	"os"

	"github.com/midair-go/midair/internal/earlyhelper"
)

// Seconds is how long the process sleeps, and marks the process.
const Seconds = "302"

func init() {
	if os.Getenv(earlyhelper.Env) != "" {
		p, err := os.StartProcess("/bin/sleep", []string{"sleep", Seconds}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
		if err == nil { // otherwise the test misses the process
			_ = p.Release()
		}
	}
}
