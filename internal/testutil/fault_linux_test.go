package testutil_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A process that stops at a point goes on from there when it is continued.
func TestFaultStopsUntilContinued(t *testing.T) {
	p := startFault(t, testutil.FaultSpec("here", "stop", ""))
	p.WaitOutput(patience, "fault here stop ")
	testutil.Until(t, patience, "the process to stop", func() bool { return state(t, p.PID()) == "T" })
	p.Signal(syscall.SIGCONT)
	if code, err := p.Wait(patience); code != 0 || err != nil {
		t.Errorf("exit code %d, %v, want 0", code, err)
	}
	p.WaitOutput(patience, "passed after")
}

func state(t *testing.T, pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return after[:1]
}
