package process

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// A process has ended when it is killed, also as long as its parent does not wait for it.
func TestZombieHasEnded(t *testing.T) {
	program := exec.Command("sleep", "60")
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Wait() }()
	pid := program.Process.Pid
	if HasEnded(pid) || HasEnded(os.Getpid()) {
		t.Error("a living process has ended")
	}
	_ = program.Process.Kill()
	testutil.Until(t, 20*time.Second, "the end of the process", func() bool { return HasEnded(pid) })
	_ = program.Wait()
	if !HasEnded(pid) {
		t.Error("a process that is gone has not ended")
	}
}
