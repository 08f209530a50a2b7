package upgrade

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The end of an attempt that is taken back, from the old process's side: everything is served here again, the candidate finishes its
// requests, and its state and its connections come back.

// dismissal takes an attempt back.
type dismissal struct {
	*attempt
	cause     error
	failedAt  stage // in which the cause was found
	detected  time.Time
	accepting time.Duration  // after which this process accepted again
	body      wire.AbortBody // of the abort message
	deaf      bool           // a message out of order has come, and was logged
}

// idleAbortGrace is the most time that a candidate without connections gets to end.
const idleAbortGrace = 2 * time.Second

// killLimit is how long a killed candidate may take to end, before the attempt ends without it: the candidate runs as another
// user, say, or is stuck in the kernel.
const killLimit = 5 * time.Second

// dismiss makes this process serve everything again, at once, and sends the candidate the abort message. A candidate that can still
// answer finishes its requests first; a candidate that hangs, or takes too long, is killed.
func (d *dismissal) dismiss() await {
	d.detected = time.Now()
	if d.mode != modeRevive && !d.holdsBack() {
		d.estate.listeners.Open(true)
	}
	_ = d.estate.listeners.PutBack() // what is in the way may go with the candidate
	d.shares.stop()
	d.cand.hangUp(true)
	d.accepting = time.Since(d.detected)
	if d.child == nil {
		return await{}
	}
	atStep("old.taking-back")
	w := await{stops: d.stopping}
	unread := d.received.frames == nil || errors.Is(d.cause, wire.ErrFrame) // the candidate is not to wait for an answer
	d.body = wire.AbortBody{Reason: wire.Clip(d.cause.Error()), Stopping: d.isStopping() || unread}
	if d.body.Stopping {
		w.stops = nil
	}
	grace := time.Duration(0) // a candidate that hangs returns nothing
	if !d.hangs() {
		grace = d.peer.abort(d.child, d.body, d.opts.AbortGrace)
	}
	atStep("old.aborted")
	w.due = time.Now().Add(grace)
	return w
}

// holdsBack reports whether this process has released a resource without which it cannot serve. Then this process accepts again
// when the candidate has ended and the resources are acquired.
func (d *dismissal) holdsBack() bool { return d.released() && d.exclusive() }

// released reports whether the attempt has come to release the resources.
func (d *dismissal) released() bool {
	return d.failedAt >= atReleasing && len(d.estate.resources.list()) > 0
}

// hangs reports whether the candidate hangs: it sends no heartbeats, or no answer to the commit message.
func (d *dismissal) hangs() bool {
	return errors.As(d.cause, new(*silentError)) || d.failedAt >= atCommitting && !errors.As(d.cause, new(*remoteError))
}

// warn sends the candidate the abort message again, with the mark that the whole service ends, so that the candidate neither goes
// on alone nor waits for an answer.
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

// takeState takes back the values of a candidate that has served, and lets the candidate end. The value's UnmarshalBinary runs
// beside the attempt.
func (d *dismissal) takeState(f wire.Frame) {
	if err := d.received.inOrder(f.Kind, phaseTakenBack, d.peer, d.child.link.Sent); err != nil {
		f.Close()
		if !d.deaf {
			d.deaf = true // the log needs one line of them
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
		_ = link.Send(wire.KindReleased, nil) // fails if the candidate has not waited for it
		return nil
	})
}

// reacquire acquires the resources again after a failed commit, and waits for the values that have come back. The candidate has
// ended, or cannot be killed.
func (d *dismissal) reacquire() await {
	if d.child == nil {
		return await{}
	}
	d.estate.listeners.TakeReusePortBack()
	d.estate.putPathsBack() // it may have removed more at its end
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

// acceptAgain makes this process accept again if it has waited for its resources. A process that stops perhaps has no resources any more, and does not accept.
func (d *dismissal) acceptAgain() {
	if d.holdsBack() && !d.isStopping() {
		d.estate.listeners.Open(true)
		d.accepting = time.Since(d.detected)
	}
}

// takenBack drops everything of the candidate, and returns the reason of the failure; nil after a rehearsal that went well.
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

// crashText returns how the Go runtime began to describe a crash; empty without a crash.
func crashText(file *os.File) string {
	if file == nil {
		return ""
	}
	b := make([]byte, 2048)
	n, _ := file.ReadAt(b, 0)
	text, _, _ := strings.Cut(string(b[:n]), "\ngoroutine ")
	return strings.Join(strings.Fields(text), " ")
}
