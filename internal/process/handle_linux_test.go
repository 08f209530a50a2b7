package process_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"golang.org/x/sys/unix"
)

// sleeper starts a process that leads a group of its own, and is reaped only when wait is called.
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

// A handle reports the end of its process, before and after the process is reaped. After that it sends no signal to another
// process.
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
	_ = wait() // returns an error, since the process was killed
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

// Open returns an error if there is no process with the pid.
func TestNobodyHasNoHandle(t *testing.T) {
	if _, err := process.Open(1<<22 + 1); !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
}

// FromPIDFD makes a handle of the process for which the pidfd was opened, whether the process lives, has ended, or was reaped.
func TestHandleFromAPidfd(t *testing.T) {
	c := shell(t, "echo up >&5; sleep 60")
	c.line()
	var handles []*process.Handle
	for range 2 {
		fd, err := c.PIDFD()
		if err != nil {
			t.Fatal(err)
		}
		h, err := process.FromPIDFD(fd)
		if err != nil || h.PID() != c.PID || h.Ended() {
			t.Fatalf("%+v, %v", h, err)
		}
		handles = append(handles, h)
	}
	last, err := c.PIDFD()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- handles[0].Wait() }()
	handles[1].Kill()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	await(t, "the end", c.Exited)
	if _, err := c.PIDFD(); !errors.Is(err, os.ErrProcessDone) {
		t.Error("a pidfd of a process that was reaped")
	}
	h, err := process.FromPIDFD(last)
	if err != nil || h.PID() != 0 || !h.Ended() {
		t.Errorf("reaped: %+v, %v", h, err)
	}
	h.Kill() // nobody
	for _, h := range append(handles, h) {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A file that is no pidfd, or that cannot be waited for, is refused. The caller still owns the file.
func TestHandleFromSomethingElse(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]*os.File{"is no pidfd": null, "without PIDFD_NONBLOCK": os.NewFile(uintptr(fd), "pidfd")} {
		if _, err := process.FromPIDFD(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err := f.Close(); err != nil {
			t.Errorf("it was closed: %v", err)
		}
	}
}
