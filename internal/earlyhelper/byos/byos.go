// Package byos is for tests: if the variable earlyhelper.Env is set, its init starts a process by package os. The path of the
// package sorts before the path of package inherited. Nevertheless the init of inherited must run first, since byos imports
// os, which is initialised after inherited.
package byos

import (
	"os"

	"github.com/midair-go/midair/internal/earlyhelper"
)

// Seconds is how long the process sleeps. Tests find the process by this argument.
const Seconds = "302"

func init() {
	if os.Getenv(earlyhelper.Env) != "" {
		p, err := os.StartProcess("/bin/sleep", []string{"sleep", Seconds}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
		if err == nil { // otherwise the test fails because it does not find the process
			_ = p.Release()
		}
	}
}
