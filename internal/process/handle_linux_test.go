package process_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/process"
)

// sleeper is a process that leads a group of its own, and is not reaped before wait is called.
func sleeper(t *testing.T) (pid int, wait func() error) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid, cmd.Wait
}

// A handle knows the end of its process, before it is reaped and after that, and signals nobody else then.
func TestHandleOutlivesItsProcess(t *testing.T) {
	pid, wait := sleeper(t)
	h, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if h.Ended() || h.Signal(0) != nil {
		t.Fatal("it has ended before anybody ended it")
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Wait() }()
	h.Kill()
	if err := <-ended; err != nil || !h.Ended() {
		t.Errorf("%v, ended %v", err, h.Ended())
	}
	_ = wait() // which says that it was killed
	if err := h.Signal(0); !errors.Is(err, syscall.ESRCH) || !h.Ended() {
		t.Errorf("when it was reaped: %v, ended %v", err, h.Ended())
	}
	h.Kill()
}

// Close ends a Wait for a process that lives.
func TestCloseEndsWait(t *testing.T) {
	pid, _ := sleeper(t)
	h, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Wait() }()
	h.Close()
	if err := <-ended; err == nil {
		t.Error("the process has ended, it says")
	}
	if err := h.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

// There is no handle of a process that is not there.
func TestNobodyHasNoHandle(t *testing.T) {
	if _, err := process.Open(1<<22 + 1); !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
}
