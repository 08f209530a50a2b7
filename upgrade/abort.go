package upgrade

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The end of an attempt that is taken back, from the old process's side: this process serves everything again, the candidate
// finishes its requests, and the candidate's state and connections come back to this process.

// dismissal takes an attempt back.
type dismissal struct {
	*attempt
	cause     error
	failedAt  stage          // the stage in which the attempt failed
	detected  time.Time      // when dismiss was called
	accepting time.Duration  // the time from detected until this process accepted again
	body      wire.AbortBody // the body of the abort message
	deaf      bool           // a message out of order was logged; later messages out of order are not logged
}

// idleAbortGrace is how long an aborted candidate may take to end if it cannot have accepted a connection.
const idleAbortGrace = 2 * time.Second

// killLimit is how long a killed candidate may take to end. After killLimit the attempt ends although the candidate runs: the
// candidate belongs to another user, say, or is stuck in the kernel.
const killLimit = 5 * time.Second

// dismiss makes this process accept again, and sends the candidate the abort message. This process does not accept yet if
// holdsBack returns true, and not at all in modeRevive. A candidate that can still answer finishes its requests before it ends.
// A candidate that hangs, or takes too long, is killed in the next stage.
func (d *dismissal) dismiss() await {
	d.detected = time.Now()
	if d.mode != modeRevive && !d.holdsBack() {
		d.estate.listeners.Open(true)
	}
	_ = d.estate.listeners.PutBack() // if PutBack fails, reacquire tries again when the candidate has ended
	d.shares.stop()
	d.cand.hangUp(true)
	d.accepting = time.Since(d.detected)
	if d.child == nil {
		return await{}
	}
	atStep("old.taking-back")
	w := await{stops: d.stopping}
	unread := d.received.frames == nil || errors.Is(d.cause, wire.ErrFrame) // this process can read no message any more
	d.body = wire.AbortBody{Reason: wire.Clip(d.cause.Error()), Stopping: d.isStopping() || unread}
	if d.body.Stopping {
		w.stops = nil
	}
	grace := time.Duration(0) // a candidate that hangs is killed at once
	if !d.hangs() {
		grace = d.peer.abort(d.child, d.body, d.opts.AbortGrace)
	}
	atStep("old.aborted")
	w.due = time.Now().Add(grace)
	return w
}

// holdsBack reports whether this process has released its resources, and the old or the new process needs an exclusive resource
// to serve. If so, this process accepts again only when the candidate has ended and the resources are acquired.
func (d *dismissal) holdsBack() bool { return d.released() && d.exclusive() }

// released reports whether the program has exclusive resources that the attempt may have released: the attempt failed in stage
// releasing or later.
func (d *dismissal) released() bool {
	return d.failedAt >= atReleasing && len(d.estate.resources.list()) > 0
}

// hangs reports whether the candidate counts as hanging: it has sent no heartbeats, or the attempt failed after the commit
// message and the candidate has sent no reason.
func (d *dismissal) hangs() bool {
	return errors.As(d.cause, new(*silentError)) || d.failedAt >= atCommitting && !errors.As(d.cause, new(*remoteError))
}

// warn sends the candidate the abort message again, with the mark Stopping: the candidate must not become the service, and must
// not wait for an answer.
func (d *dismissal) warn() {
	d.body.Stopping = true
	_ = d.child.link.Send(wire.KindAbort, d.body) // fails if the candidate is dead
}

// kill kills the child, unless the child has ended.
func (d *dismissal) kill() await {
	err := d.child.Kill()
	switch {
	case err != nil:
		d.log.Error("upgrade: cannot kill the candidate", "candidate", d.child.PID, "err", err)
	case !d.child.gone():
		d.log.Warn("upgrade: killed the candidate", "candidate", d.child.PID, "after", time.Since(d.detected))
	}
	w := await{due: time.Now().Add(killLimit)}
	if !d.body.Stopping {
		w.stops = d.stopping
	}
	return w
}

// takeState handles a message that comes after the attempt was taken back. KindReturned brings the values of a candidate that
// has served: takeState begins to restore these values beside the attempt, because UnmarshalBinary may take long. When the
// values are restored, this process sends KindReleased, which allows the candidate to end.
func (d *dismissal) takeState(f wire.Frame) {
	if err := d.received.inOrder(f.Kind, phaseTakenBack, d.peer, d.child.link.Sent); err != nil {
		f.Close()
		if !d.deaf {
			d.deaf = true // one line in the log is enough
			d.log.Warn("upgrade: the candidate is not heard", "candidate", d.child.PID, "err", err)
		}
		return
	}
	d.heartbeat.refresh()
	if f.Kind != wire.KindReturned {
		if f.Kind == wire.KindConn {
			d.shares.returned(f)
		}
		f.Close()
		return
	}
	link, restores := d.child.link, len(f.Files) > 0 && d.mode != modeRevive
	d.received.call = newWork("restore", nil, nil, func() error {
		defer f.Close()
		if restores {
			d.estate.restore(d.child.PID, f.Files[0], nil)
		}
		atStep("old.returned")
		_ = link.Send(wire.KindReleased, nil) // fails if the candidate has ended without waiting for the message
		return nil
	})
}

// reacquire acquires the resources again if the attempt has released them, and waits until the values that have come back are
// restored. At this time the candidate has ended, or could not be killed.
func (d *dismissal) reacquire() await {
	if d.child == nil {
		return await{}
	}
	d.estate.listeners.TakeReusePortBack()
	d.estate.putPathsBack() // the candidate may have removed paths at its end
	d.shares.settle(true)
	restoring, released := d.received.call, d.released()
	if restoring == nil && !released {
		return await{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.work = newWork("reacquire", cancel, nil, func() error {
		restoring.awaitEnd(ctx)
		if !released {
			return nil
		}
		return d.estate.resources.reacquire(ctx, d.opts.Timeout, d.log)
	})
	return await{work: d.work, stops: d.stopping}
}

// acceptAgain makes this process accept again if it has waited for its resources. If the service is to end, reacquire perhaps
// has not acquired the resources, and this process does not accept.
func (d *dismissal) acceptAgain() {
	if d.holdsBack() && !d.isStopping() {
		d.estate.listeners.Open(true)
		d.accepting = time.Since(d.detected)
	}
}

// takenBack closes everything that this process has open for the candidate, and writes the pid of this process to the pid file
// again. It returns nil after a rehearsal that went well. Otherwise it returns an *Error with the reason.
func (d *dismissal) takenBack() error {
	e := &Error{Phase: d.phase(), Reason: d.cause.Error(), Err: d.cause}
	if d.child == nil {
		return e
	}
	d.acceptAgain()
	rehearsed := errors.Is(d.cause, errRehearsed)
	if !rehearsed {
		d.log.Info("upgrade: taken back", "candidate", d.child.PID, "accepting_after", d.accepting, "ended_after", time.Since(d.detected))
	}
	e.PID = d.child.PID
	if r := (*remoteError)(nil); errors.As(d.cause, &r) && r.Phase != "" {
		e.Phase = Phase(r.Phase)
	}
	if x := (*exitError)(nil); errors.As(d.cause, &x) {
		if text := crashText(d.crash); text != "" {
			e.Reason += ": " + text
		}
	}
	d.child.close()
	d.estate.pid.Discard(d.child.PID)
	if d.mode != modeRevive && !d.estate.pid.Owned() {
		if err := d.estate.publishPID(); err != nil {
			d.log.Error("upgrade: cannot take the pid file back", "err", err)
		}
	}
	if rehearsed {
		return nil
	}
	return e
}

// crashText returns the first lines of a crash report of the Go runtime, up to the list of goroutines. The result is empty if
// there was no crash.
func crashText(file *os.File) string {
	if file == nil {
		return ""
	}
	b := make([]byte, 2048)
	n, _ := file.ReadAt(b, 0)
	text, _, _ := strings.Cut(string(b[:n]), "\ngoroutine ")
	return strings.Join(strings.Fields(text), " ")
}
