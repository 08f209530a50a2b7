package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Request asks the service whose pid file this is (Options.PIDFile) for an upgrade, as a deploy script does: it sends a
// SIGHUP, waits, and returns how the upgrade ended. The error is nil if the new process serves; an *Error with phase and
// reason if it was taken back; ErrClosed if the service has ended. It waits until ctx ends at most; the upgrade goes on
// then. The Outcome is what the service wrote beside the pid file, ready to be printed as JSON. An upgrade that was under
// way already is waited for as well: the signal asks for one after it.
func Request(ctx context.Context, pidFile string) (Outcome, error) {
	q := asked{file: pidFile, at: time.Now()}
	var err error
	if q.pid, err = readPID(pidFile); err != nil {
		return Outcome{}, fmt.Errorf("upgrade: %w", err)
	}
	q.proc, err = os.FindProcess(q.pid)
	if err == nil {
		err = q.proc.Signal(syscall.SIGHUP)
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("upgrade: signal pid %d of %s: %w", q.pid, pidFile, err)
	}
	defer q.proc.Release()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if out, over, err := q.look(); over {
			return out, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return Outcome{}, fmt.Errorf("upgrade: no outcome after %v, the upgrade goes on; the log of pid %d tells more: %w",
				time.Since(q.at).Round(100*time.Millisecond), q.pid, context.Cause(ctx))
		}
	}
}

// asked is a signal that was sent.
type asked struct {
	file string
	pid  int
	proc *os.Process
	at   time.Time
}

// look tells whether the upgrade is over. One that had begun before the signal is another one, unless the service
// changed hands with it: then the signal was passed on, and the next outcome counts.
func (q *asked) look() (Outcome, bool, error) {
	gone := errors.Is(q.proc.Signal(syscall.Signal(0)), os.ErrProcessDone) // asked first: it writes the files before it goes
	if out, ok := readOutcome(q.file); ok && !out.Started.Before(q.at) {
		if !out.Committed {
			return out, true, &Error{Phase: out.Phase, Reason: out.Reason, PID: out.PID}
		}
		return out, true, nil
	}
	if !gone {
		return Outcome{}, false, nil
	}
	pid, err := readPID(q.file)
	switch {
	case err != nil:
		return Outcome{}, true, fmt.Errorf("%w: pid %d has ended: %w", ErrClosed, q.pid, err)
	case pid == q.pid:
		return Outcome{}, true, fmt.Errorf("%w: pid %d has ended, and %s names no other process", ErrClosed, pid, q.file)
	}
	next, err := os.FindProcess(pid)
	if err == nil {
		q.proc.Release()
		q.proc, q.pid = next, pid
	}
	return Outcome{}, false, nil
}

func readOutcome(pidFile string) (out Outcome, ok bool) {
	b, err := os.ReadFile(pidFile + lastSuffix)
	return out, err == nil && json.Unmarshal(b, &out) == nil
}

func readPID(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%s: %q is no pid of a service", file, b)
	}
	return pid, nil
}
