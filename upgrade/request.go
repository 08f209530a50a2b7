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

// Request asks a running service for an upgrade, for example from a deploy script. Request sends SIGHUP to the process in the
// service's pid file (Options.PIDFile), waits for the end of the upgrade, and returns the outcome. The error is nil if the new
// process serves. It is an *Error with phase and reason if the upgrade has failed. It is an *Error without a phase if the
// service has crashed and its supervisor has started it again. It is ErrClosed if the service has ended or does not run. If ctx
// ends first, Request returns an error, and the upgrade goes on.
//
// If ctx has no deadline, Request gives up after 2 minutes in which no upgrade was under way. So Request does not wait for ever
// for a service that cannot write the outcome, and it waits as long as a long upgrade takes. Request recognises an upgrade that
// is under way by a file beside the pid file (see Options.PIDFile): this file reserves room for the outcome. If an upgrade is
// already under way, Request waits for the end of that upgrade, and then for the further upgrade that the signal has asked for.
// Two requests at the same time may both get the outcome of the later upgrade. The Outcome can be printed as JSON: it is the
// content of a file that the service has written beside the pid file.
//
// Request is safe even in a directory where every user may write, such as /tmp: no other user can choose the process that
// receives the signal, or change the answer of the service. So Request accepts a pid file only if its owner is root, the user
// that calls Request, or the user of the process in the file. Request accepts an outcome only if its owner is root or the user
// of that process. Otherwise the error has the name of the file, both uids, and the remedy. After it has refused an outcome,
// Request goes on waiting, because the service may still replace the file.
//
// A pid file may be a symbolic link if an accepted user owns the link. But in a directory where every user may write, Request
// refuses symbolic links. If the pid file is a symbolic link, the outcome is beside the target of the link. Request refuses
// files that are not regular files, and never waits for such a file. If a directory where every user may write contains no pid
// file, every user can pretend to be the service. So put the pid file of an important service where only the service may write,
// such as /run/NAME.
func Request(ctx context.Context, pidFile string) (Outcome, error) {
	return ask(ctx, pidFile, idleLimit)
}

// ask does what Request does. If ctx has no deadline, idle is how long ask goes on waiting while no upgrade is under way.
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
	file    string          // the path of the pid file
	service pidfile.Service // the service that got the signal
	pid     int             // the pid of the process that has to write the outcome
	proc    *os.Process     // the process with this pid
	release func()          // removes the mark that a request is under way
	at      time.Time       // when the request began, by the wall clock
	since   time.Duration   // when the request began, by sys.Uptime
	before  Outcome         // the outcome in the file before the signal; it may be from before the boot of the machine
	lost    time.Time       // when a look first found that the process is dead and still in the pid file; zero: not yet
	refused error           // why the last look could not read the outcome; nil if the outcome was read, or if there is no file
	handed  time.Time       // when the outcome was first refused after another process had taken over; zero: never
	idle    idle
}

// successorLimit is the limit of two different waits. If the old process was killed, Request waits until a candidate has become
// the service. If another process has become the service, Request waits for an outcome that can be read.
const successorLimit = 5 * time.Second

// signal sends SIGHUP to the process in the pid file. It returns an error if that process does not handle SIGHUP, because the
// signal would end such a process.
func (q *asked) signal() (err error) {
	q.service, err = pidfile.Read(q.file)
	q.pid = q.service.PID
	q.before, _ = readOutcome(q.service.ReadLast()) // the file may be missing or refused
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
		q.proc.Release() // perhaps the service ended before FindProcess, and an unrelated process has its pid now
		return q.signal()
	}
	if err == nil {
		q.release = q.service.Ask() // without this mark the service could believe that SIGHUP reports the end of its terminal
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

// look returns true if the upgrade is over, together with the two results of Request. The outcome of a rehearsal does not
// count. The outcome of an upgrade that began before the signal does not count either: if that upgrade has replaced the
// process, the old process passes the signal on to the new one, and the next outcome counts.
func (q *asked) look() (Outcome, bool, error) {
	// Look at the process before its files are read: if the process has ended, it has already written all of its files.
	gone := errors.Is(q.proc.Signal(syscall.Signal(0)), os.ErrProcessDone)
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

// works reports whether an upgrade is under way. The upgrade may have been begun by the process with pid q.pid, or by the
// process that is now in the pid file.
func (q *asked) works() bool {
	if q.service.Works(q.pid) {
		return true
	}
	now, err := pidfile.Read(q.file)
	return err == nil && now.PID != q.pid && now.Works(now.PID)
}

// handedOver returns true and an error if another process has been the service for successorLimit, and the outcome is still
// refused. In this case the service cannot replace the file of the outcome. Otherwise handedOver returns false and no error.
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

// withRefusal adds to an error the reason why the outcome could not be read, if there is such a reason.
func (q *asked) withRefusal(err error) error {
	if q.refused == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, q.refused)
}

// killed handles the death of a process that is still in the pid file. For successorLimit it returns false, because the
// candidate of the dead process may take over. After that it returns true and an error.
func (q *asked) killed() (Outcome, bool, error) {
	if q.lost.IsZero() {
		q.lost = time.Now()
	}
	if time.Since(q.lost) < successorLimit {
		return Outcome{}, false, nil
	}
	return Outcome{}, true, fmt.Errorf("%w: pid %d has ended without removing %s, and no other process has taken over: start the service, unless it serves and cannot write that file", ErrClosed, q.pid, q.file)
}
