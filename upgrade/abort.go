package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The end of an attempt that is taken back, from the old process's side: everything is served here again, the candidate finishes its
// requests, and its state and its connections come back.

// dismissal is an attempt that is taken back.
type dismissal struct {
	cause     error
	failedAt  stage // in which the cause was found
	detected  time.Time
	accepting time.Duration  // after which this process accepted again
	body      wire.AbortBody // of the abort message
	deaf      bool           // a message out of order has come, and was logged
}

// idleAbortGrace is how long a candidate that has accepted nothing may take to end.
const idleAbortGrace = 2 * time.Second

// killLimit is how long a killed candidate may take to end, before the attempt ends without it: the candidate runs as another
// user, say, or is stuck in the kernel.
const killLimit = 5 * time.Second

// dismiss makes this process serve everything again, at once, and then sees to it that the candidate ends. A candidate that can still
// answer finishes its requests first; a candidate that hangs, or takes too long, is killed.
func (a *attempt) dismiss() await {
	d := a.dismissal
	d.detected = time.Now()
	if a.mode != modeRevive && !a.holdsBack() {
		a.estate.listeners.Open(true)
	}
	_ = a.estate.listeners.PutBack() // what is in the way may go with the candidate
	a.shares.stop(a)
	a.cand.hangUp(true)
	d.accepting = time.Since(d.detected)
	if a.child == nil {
		return await{}
	}
	atStep("old.taking-back")
	w := await{stops: a.stopping}
	d.body = wire.AbortBody{Reason: wire.Clip(d.cause.Error()), Stopping: a.isStopping() || errors.Is(d.cause, wire.ErrFrame)} // deaf to it
	if d.body.Stopping {
		w.stops = nil
	}
	grace := time.Duration(0) // a candidate that hangs returns nothing
	if !a.hangs() {
		grace = a.peer.abort(a.child, d.body, a.opts.AbortGrace)
	}
	atStep("old.aborted")
	w.due = time.Now().Add(grace)
	return w
}

// holdsBack reports whether this process has released what it needs to serve. It accepts again when the candidate has ended, and the
// resources are held again.
func (a *attempt) holdsBack() bool { return a.released() && a.exclusive() }

// released reports whether the attempt has come to release the resources.
func (a *attempt) released() bool {
	return a.dismissal.failedAt >= atReleasing && len(a.estate.resources.list()) > 0
}

// hangs reports whether the candidate hangs: it sends no heartbeats, or no answer to the commit message.
func (a *attempt) hangs() bool {
	cause := a.dismissal.cause
	return errors.As(cause, new(*silentError)) || a.dismissal.failedAt >= atCommitting && !errors.As(cause, new(*remoteError))
}

// warn tells the candidate that it must not go on alone if this process ends: the whole service ends, or what the candidate sends cannot
// be read, so it must not wait for an answer.
func (a *attempt) warn() {
	a.dismissal.body.Stopping = true
	_ = a.child.link.Send(wire.KindAbort, a.dismissal.body) // fails if the candidate is dead
}

// kill kills the child, if it is still there.
func (a *attempt) kill() await {
	err := a.child.Kill()
	switch {
	case err != nil:
		a.log.Error("upgrade: cannot kill the candidate", "candidate", a.child.PID, "err", err)
	case !a.child.gone():
		a.log.Warn("upgrade: killed the candidate", "candidate", a.child.PID, "after", time.Since(a.dismissal.detected))
	}
	w := await{due: time.Now().Add(killLimit)}
	if !a.dismissal.body.Stopping {
		w.stops = a.stopping
	}
	return w
}

// takeState takes back the values of a candidate that has served, and lets the candidate end. The value's UnmarshalBinary runs beside
// the attempt.
func (a *attempt) takeState(f wire.Frame) {
	if err := a.received.inOrder(f.Kind, phaseTakenBack, a.peer, a.child.link.Sent); err != nil {
		f.Close()
		if !a.dismissal.deaf {
			a.dismissal.deaf = true // the log needs one line of them
			a.log.Warn("upgrade: the candidate is not heard", "candidate", a.child.PID, "err", err)
		}
		return
	}
	a.heartbeat.refresh()
	if f.Kind != wire.KindReturned {
		if f.Kind == wire.KindConn {
			a.shares.returned(a, f)
		}
		f.Close()
		return
	}
	link, restores := a.child.link, len(f.Files) > 0 && a.mode != modeRevive
	a.received.call = newWork("restore", nil, nil, func() error {
		defer f.Close()
		if restores {
			a.host.restore(a.child.PID, f.Files[0], nil)
		}
		atStep("old.returned")
		_ = link.Send(wire.KindReleased, nil) // fails if the candidate has not waited for it
		return nil
	})
}

// reacquire gives the program back what it released for a commit that failed, and waits for the values that have come back. The
// candidate has ended, or cannot be killed.
func (a *attempt) reacquire() await {
	if a.child == nil {
		return await{}
	}
	a.estate.listeners.TakeReusePortBack()
	a.host.putPathsBack() // it may have removed more at its end
	a.shares.settle(a, true)
	restoring, released := a.received.call, a.released()
	if restoring == nil && !released {
		return await{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.work = newWork("reacquire", cancel, nil, func() error {
		restoring.awaitEnd(ctx)
		if !released {
			return nil
		}
		return a.estate.resources.reacquire(ctx, a.opts.Timeout, a.log)
	})
	return await{work: a.work, stops: a.stopping}
}

// takenBack ends what belongs to the candidate, and returns why it was taken back.
func (a *attempt) takenBack() error {
	d := a.dismissal
	e := &Error{Phase: a.phase(), Reason: d.cause.Error(), Err: d.cause}
	if a.child == nil {
		return e
	}
	if a.holdsBack() {
		a.estate.listeners.Open(true)
		d.accepting = time.Since(d.detected)
	}
	rehearsed := errors.Is(d.cause, errRehearsed)
	if !rehearsed {
		a.log.Info("upgrade: taken back", "candidate", a.child.PID, "accepting_after", d.accepting, "ended_after", time.Since(d.detected))
	}
	e.PID = a.child.PID
	if r := (*remoteError)(nil); errors.As(d.cause, &r) && r.Phase != "" {
		e.Phase = Phase(r.Phase)
	}
	if x := (*exitError)(nil); errors.As(d.cause, &x) {
		if text := crashText(a.crash); text != "" {
			e.Reason += ": " + text
		}
	}
	a.child.close()
	a.estate.pid.Discard(a.child.PID)
	if a.mode != modeRevive && !a.estate.pid.Owned() {
		if err := a.host.publish(); err != nil {
			a.log.Error("upgrade: cannot take the pid file back", "err", err)
		}
	}
	if rehearsed {
		return nil
	}
	return e
}

// takeState takes the values that a process gives back at its end, if it gives any.
func (u *Upgrader) takeState(from int, f wire.Frame, stop <-chan struct{}) {
	if len(f.Files) > 0 {
		u.restore(from, f.Files[0], stop)
	}
}

// restore gives the program the state that another process had. It does not wait for a value that hangs, or beyond the end of this
// process.
func (u *Upgrader) restore(from int, state *os.File, stop <-chan struct{}) {
	done := make(chan error, 1)
	go func() { done <- u.keeper.Receive(state) }() // ends when UnmarshalBinary does
	var err error
	select {
	case err = <-done:
	case <-stop:
		err = errors.New("this process ends before the value's UnmarshalBinary has returned")
	case <-time.After(u.opts.Timeout):
		err = fmt.Errorf("a kept value's UnmarshalBinary did not return within %v", u.opts.Timeout)
	}
	if err != nil {
		u.log.Error("upgrade: cannot take the state of a process that goes", "pid", from, "err", err)
	}
	u.keeper.Forget()
}

// crashText returns how the Go runtime began to describe a crash; empty if it did not.
func crashText(file *os.File) string {
	if file == nil {
		return ""
	}
	b := make([]byte, 2048)
	n, _ := file.ReadAt(b, 0)
	text, _, _ := strings.Cut(string(b[:n]), "\ngoroutine ")
	return strings.Join(strings.Fields(text), " ")
}
