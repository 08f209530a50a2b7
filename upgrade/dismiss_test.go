//go:build linux

package upgrade

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/process"
	"golang.org/x/sys/unix"
)

// An attempt ends even if its candidate cannot be killed, for example because the candidate belongs to another user. The log
// names the process to end. The control socket stays open, because the candidate would take the end of the socket for the
// death of the old process.
func TestAttemptEndsWithoutACandidateThatCannotBeKilled(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user for a moment")
	}
	var log bytes.Buffer
	u, err := NewUnsupported(Options{AbortGrace: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	p, err := process.Preflight("/bin/sleep", []string{"60"}, process.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := startChild(&u.estate, &u.origin, &u.opts, p)
	if err != nil {
		t.Fatal(err)
	}
	a := newAttempt(t.Context(), &u.parts, modeUpgrade)
	a.child, a.stage, a.received.frames = c, atBaking, c.link.Frames
	a.dismissal = &dismissal{attempt: a, cause: errors.New("the judge says no")}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks it: no other goroutine may run on this thread
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			done <- errno
			return
		}
		a.move(atDismissing)
		a.follow(t.Context())
		done <- nil
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(4 * killLimit):
		t.Error("the attempt does not end")
	}
	logqueue.Flush(u.log)
	if text := log.String(); !strings.Contains(text, "cannot kill the candidate") || !strings.Contains(text, "end it by hand") {
		t.Errorf("log:\n%s", text)
	}
	c.close()
	select {
	case _, ok := <-c.link.Frames:
		t.Errorf("the socket has ended before the candidate, %v", !ok)
	default:
	}
	_ = unix.Kill(c.PID, unix.SIGKILL)
	for range c.link.Frames { // ends when the socket is closed
	}
}
