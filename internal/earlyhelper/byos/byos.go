// Package byos is for tests. If the variable earlyhelper.Env is set, the init of this package starts a process by package os.
// The path of byos sorts before the path of package inherited. Nevertheless the init of inherited runs first, because byos
// imports os, and os is initialised after inherited.
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
