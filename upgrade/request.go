package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/pidfile"
)

// Request asks a service for an upgrade, as a deploy script does, by the service's pid file (Options.PIDFile): Request sends a
// SIGHUP, waits, and returns how the upgrade ended. The error is nil if the new process serves; an *Error with phase and reason if
// the upgrade was taken back, or if the service crashed meanwhile and its supervisor has started the service again; ErrClosed if
// the service has ended or does not run. Request waits until ctx ends at most; the upgrade goes on then. If ctx has no deadline,
// Request waits until the service has shown for 2 minutes that no upgrade is under way: by room that is held for the outcome beside
// the pid file, see Options.PIDFile. So a service that cannot write there lets no caller wait for ever, and a long upgrade gets its
// time, also an upgrade that was under way already. The Outcome is the text that the service wrote beside the pid file, ready to be
// printed as JSON. An upgrade that was under way already is waited for as well: the signal asks for another one afterwards. Two
// requests at the same time may both get the outcome of the later upgrade.
//
// No other user may direct the signal to a process of another user, or change the answer of the service, even in a directory where
// every user may write, as /tmp. So Request refuses a pid file unless its owner is root, the user that calls Request, or the user
// of the process in the file, and an outcome unless its owner is root or the user of that process: the error has the file, both
// uids, and what to do. Request goes on waiting after a refused outcome: a service that may replace the outcome does. A pid file
// may be a symbolic link of one of those users, in a directory where not every user may write; the outcome is then beside the
// target of the link. Files other than regular files are refused, and never waited for. While there is no pid file, every user can
// play the service in such a directory: put the file of an important service where only the service may write, as in /run/NAME.
func Request(ctx context.Context, pidFile string) (Outcome, error) {
	return ask(ctx, pidFile, idleLimit)
}

// ask is Request with a limit for a context without a deadline.
func ask(ctx context.Context, pidFile string, idle time.Duration) (Outcome, error) {
	q := asked{file: pidFile, at: time.Now(), since: sys.Uptime()}
	if _, ok := ctx.Deadline(); !ok {
		q.idle.limit = idle
	}
	if err := q.signal(); err != nil {
		if q.release != nil {
			q.release()
		}
		return Outcome{}, err
	}
	defer q.release()
	defer func() { q.proc.Release() }()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if out, over, err := q.look(); over {
			return out, err
		}
		if q.idle.over(q.works) {
			return Outcome{}, fmt.Errorf("upgrade: no outcome after %v, and pid %d tries no upgrade: "+
				"it may not be able to write %s.last, its log tells more: %w",
				time.Since(q.at).Round(100*time.Millisecond), q.pid, q.file, q.withRefusal(context.DeadlineExceeded))
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return Outcome{}, fmt.Errorf("upgrade: no outcome after %v, the upgrade goes on; the log of pid %d tells more: %w",
				time.Since(q.at).Round(100*time.Millisecond), q.pid, q.withRefusal(context.Cause(ctx)))
		}
	}
}

// asked is a request for an upgrade by a signal.
type asked struct {
	file    string
	service pidfile.Service // that got the signal
	pid     int             // of the process that is to answer
	proc    *os.Process
	release func() // ends the mark that a request is under way
	at      time.Time
	since   time.Duration // the same by sys.Uptime
	before  Outcome       // what was there before: it may be of a time before the machine was started
	lost    time.Time     // when the process was found to have ended
	refused error         // why the file of the outcome could not be read at the last look; nil: it could, or there is no file
	handed  time.Time     // since when another process serves while the outcome is refused; zero: this is not so
	idle    idle
}

// successorLimit limits two waits, each on its own: the wait for a candidate to become the service after the old process was
// killed, and the wait for a readable outcome when another process serves.
const successorLimit = 5 * time.Second

// signal sends SIGHUP, unless the process would end by it.
func (q *asked) signal() (err error) {
	q.service, err = pidfile.Read(q.file)
	q.pid = q.service.PID
	q.before, _ = readOutcome(q.service.ReadLast()) // which may be missing, or refused
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no pid file %s: is the service running, with this as its Options.PIDFile?", ErrClosed, q.file)
	case err != nil:
		return fmt.Errorf("upgrade: %w", err)
	case !process.Catches(q.pid, syscall.SIGHUP):
		return fmt.Errorf("upgrade: pid %d of %s does not handle SIGHUP: is the file left by a service that was killed?", q.pid, q.file)
	}
	q.proc, err = os.FindProcess(q.pid)
	if again, changed := pidfile.Read(q.file); err == nil && (changed != nil || again.PID != q.pid) {
		q.proc.Release() // another process may have got the pid before the handle was made
		return q.signal()
	}
	if err == nil {
		q.release = q.service.Ask() // or the signal might mean the end of the terminal
		err = q.proc.Signal(syscall.SIGHUP)
	}
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return fmt.Errorf("%w: pid %d of %s has ended without removing the file: start the service", ErrClosed, q.pid, q.file)
	case err != nil:
		return fmt.Errorf("upgrade: signal pid %d of %s: %w", q.pid, q.file, err)
	}
	return nil
}

// look reports whether the upgrade is over. An upgrade from before the signal does not count, unless the service changed hands with
// it: then the signal was passed on, and the next outcome counts.
func (q *asked) look() (Outcome, bool, error) {
	gone := errors.Is(q.proc.Signal(syscall.Signal(0)), os.ErrProcessDone) // asked first: it writes the files before it goes
	out, err := readOutcome(q.service.ReadLast())
	if err == nil && out.Begun >= q.since && out.Begun != q.before.Begun && (out.Committed || out.Kind != modeRehearsal.String()) {
		switch {
		case out.crash():
			return out, true, &Error{Reason: fmt.Sprintf("%s; the supervisor has started version %s again, as pid %d", out.Reason, out.Version, out.PID)}
		case !out.Committed:
			return out, true, &Error{Phase: out.Phase, Reason: out.Reason, PID: out.PID}
		}
		return out, true, nil
	}
	q.refused = nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.refused = err
	}
	if !gone {
		return q.handedOver()
	}
	now, err := pidfile.Read(q.file)
	switch {
	case err != nil:
		return Outcome{}, true, fmt.Errorf("%w: pid %d has ended: %w", ErrClosed, q.pid, q.withRefusal(err))
	case now.PID == q.pid:
		return q.killed()
	}
	next, err := os.FindProcess(now.PID)
	if err == nil {
		q.proc.Release()
		q.proc, q.pid, q.lost = next, now.PID, time.Time{}
	}
	return Outcome{}, false, nil
}

// works reports whether an upgrade is under way, of the process that got the signal or of the process that serves now.
func (q *asked) works() bool {
	if q.service.Works(q.pid) {
		return true
	}
	now, err := pidfile.Read(q.file)
	return err == nil && now.PID != q.pid && now.Works(now.PID)
}

// handedOver gives up when another process has become the service and the file of the outcome is still refused: the service cannot
// replace the file.
func (q *asked) handedOver() (Outcome, bool, error) {
	if q.refused == nil {
		q.handed = time.Time{}
		return Outcome{}, false, nil
	}
	now, err := pidfile.Read(q.file)
	switch {
	case err != nil || now.PID == q.service.PID:
		q.handed = time.Time{}
	case q.handed.IsZero():
		q.handed = time.Now()
	case time.Since(q.handed) >= successorLimit:
		return Outcome{}, true, fmt.Errorf("upgrade: pid %d serves now, and the outcome cannot be read: %w", now.PID, q.refused)
	}
	return Outcome{}, false, nil
}

// withRefusal adds to an error why there is no outcome.
func (q *asked) withRefusal(err error) error {
	if q.refused == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, q.refused)
}

// killed waits a moment for the candidate of a process that was killed: the candidate takes over.
func (q *asked) killed() (Outcome, bool, error) {
	if q.lost.IsZero() {
		q.lost = time.Now()
	}
	if time.Since(q.lost) < successorLimit {
		return Outcome{}, false, nil
	}
	return Outcome{}, true, fmt.Errorf("%w: pid %d has ended without removing %s, and no other process has taken over: start the service, unless it serves and cannot write that file", ErrClosed, q.pid, q.file)
}
