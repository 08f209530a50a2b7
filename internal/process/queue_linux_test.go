package process_test

import (
	"os"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// queued starts a shell as if it were a program that takes its sockets from the control socket. Before the start, it queues the
// descriptor of passed.
func queued(t *testing.T, script string, passed *os.File) *process.Child {
	t.Helper()
	p := process.Marked(preflight(t, "/bin/sh", "-c", script))
	c, err := process.Start(p, os.Environ(), nil, func(control *os.File) error {
		return unix.Sendmsg(int(sys.FD(control)), []byte("x"), unix.UnixRights(int(sys.FD(passed))), nil, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Control.Close(); c.Close() })
	return c
}

// isHeld reports whether the writing end of a pipe is open in any process, or waits in a socket.
func isHeld(t *testing.T, r *os.File) bool {
	t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(sys.FD(r)), Events: unix.POLLIN}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n == 0
}

// If a child ends without having read the queued files, this process closes the files, even if a helper of the child has the
// control socket open. After Took, this process leaves the files to the child. In both cases Queued then returns an error.
func TestQueueEndsWithTheChild(t *testing.T) {
	for _, took := range []bool{false, true} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c := queued(t, "sleep 60 & echo up >&5; wait", w)
		w.Close()
		if err := c.Queued(func() error { return nil }); err != nil {
			t.Errorf("before: %v", err)
		}
		if !isHeld(t, r) {
			t.Error("nothing waits for the child")
		}
		if _, err := c.Control.Read(make([]byte, 10)); err != nil { // the shell has started the helper
			t.Fatal(err)
		}
		if took {
			c.Took()
		}
		c.Signal(os.Kill)
		await(t, "the end", c.Exited)
		if held := isHeld(t, r); held != took {
			t.Errorf("taken %v: somebody holds what has waited: %v", took, held)
		}
		if err := c.Queued(func() error { return nil }); err != os.ErrProcessDone {
			t.Errorf("after: %v", err)
		}
		_ = unix.Kill(-c.PID, unix.SIGKILL) // kills the helper
	}
}
