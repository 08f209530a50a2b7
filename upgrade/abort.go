package upgrade

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// How the old process (this process) takes an attempt back. This process serves all clients again. The candidate finishes its
// requests, and sends its kept values and its idle connections back to this process.

// dismissal takes an attempt back.
type dismissal struct {
	*attempt
	cause     error
	failedAt  stage          // the stage in which the attempt failed
	detected  time.Time      // when dismiss was called
	accepting time.Duration  // how long this process took to accept again, counted from detected
	body      wire.AbortBody // the body of the abort message
	deaf      bool           // takeState has logged a message out of order, and logs no other such message
}

// idleAbortGrace is how long an aborted candidate may take to end if it was never allowed to accept connections.
const idleAbortGrace = 2 * time.Second

// killLimit is how long a killed candidate may take to end. If the candidate still runs after killLimit, the attempt ends all
// the same: perhaps the candidate belongs to another user, or is stuck in the kernel.
const killLimit = 5 * time.Second

// dismiss makes this process accept again, and sends the candidate the abort message. Then the candidate finishes its requests
// and ends. A candidate that takes too long is killed in the next stage. A candidate that hangs gets no message, and is killed
// at once. If holdsBack returns true, dismiss does not make this process accept again: reopen does so later.
func (d *dismissal) dismiss() await {
	d.detected = time.Now()
	if !d.holdsBack() {
		d.acceptAgain()
	}
	d.files.Go(func() { _ = d.estate.listeners.PutBack() }) // if this fails, reacquire tries again when the candidate has ended
	d.shares.stop()
	d.cand.hangUp(true)
	d.accepting = time.Since(d.detected)
	if d.child == nil {
		return await{}
	}
	atStep("old.taking-back")
	w := await{stops: d.stopping}
	unread := d.received.frames == nil || errors.Is(d.cause, wire.ErrFrame) // the candidate's messages cannot be read any more
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

// holdsBack reports whether this process must not accept before the candidate has ended and the exclusive resources are
// acquired again. It returns true if the attempt may have released the resources, and one of the two processes needs a
// resource to serve.
func (d *dismissal) holdsBack() bool { return d.released() && d.exclusive() }

// released reports whether the attempt may have released exclusive resources. It returns true if the program has such
// resources, and the attempt failed in stage releasing or later. In modeRevive released returns false: this process was aborted,
// and must not acquire the resources again.
func (d *dismissal) released() bool {
	return d.mode != modeRevive && d.failedAt >= atReleasing && len(d.estate.resources.list()) > 0
}

// hangs reports whether the candidate counts as hanging. A candidate that has sent nothing for Options.Silence hangs. If the
// attempt failed in stage committing or later, a candidate that has sent no reason for the failure also counts as hanging.
func (d *dismissal) hangs() bool {
	return errors.As(d.cause, new(*silentError)) || d.failedAt >= atCommitting && !errors.As(d.cause, new(*remoteError))
}

// warn sends the candidate an abort message in which Stopping is true. After this message the candidate must not become the
// service, and ends without waiting for the message released.
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

// takeState handles a message that comes after the attempt was taken back. KindConn brings back a connection. KindReturned
// brings the kept values of a candidate that has accepted connections. takeState restores the values in another goroutine,
// because UnmarshalBinary may take long. In modeRevive it does not restore them. Afterwards this process sends KindReleased,
// which allows the candidate to end.
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

// reacquire is called when the candidate has ended, or could not be killed. It waits until the kept values that the candidate
// has sent back are restored. If the attempt may have released the resources, reacquire then acquires the resources again.
func (d *dismissal) reacquire() await {
	if d.child == nil {
		return await{}
	}
	d.estate.listeners.TakeReusePortBack()
	d.files.Go(d.estate.putPathsBack) // the candidate may have removed paths at its end
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

// reopen makes this process accept again if dismiss has not done so because of holdsBack. If the whole service is to end,
// reopen does nothing: the stop of the service may have ended reacquire before the resources were acquired.
func (d *dismissal) reopen() {
	if d.holdsBack() && !d.isStopping() {
		d.acceptAgain()
		d.accepting = time.Since(d.detected)
	}
}

// takenBack closes everything that this process has open for the candidate. It returns nil after a rehearsal that went well.
// Otherwise it returns an *Error with the reason.
func (d *dismissal) takenBack() error {
	e := &Error{Phase: d.phase(), Reason: d.cause.Error(), Err: d.cause}
	if d.child == nil {
		return e
	}
	d.reopen()
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
	if rehearsed {
		return nil
	}
	return e
}

// takeFileBack removes the staged pid file of the candidate, and writes the pid file again if the candidate has written it.
func (d *dismissal) takeFileBack() {
	if d == nil || d.child == nil {
		return
	}
	d.estate.pid.Discard(d.child.PID)
	if d.mode == modeRevive || d.estate.pid.Owned() {
		return
	}
	if err := d.estate.publishPID(); err != nil {
		d.log.Error("upgrade: cannot take the pid file back", "err", err)
	}
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
