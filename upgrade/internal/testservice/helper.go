//go:build linux

package testservice

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// startHelper starts a process that outlives this one, if the environment asks for helpers.
func startHelper(h plan.Helper) {
	if os.Getenv(plan.HelpersEnv) == "" {
		return
	}
	if err := exec.Command("/bin/sleep", string(h)).Start(); err != nil {
		fmt.Fprintln(os.Stderr, "helper:", err) // the test misses the process
	}
}
