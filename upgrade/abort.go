package upgrade

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The end of an attempt that is taken back, from the old process's side: everything is served here again, the candidate
// finishes what it has begun, and its state and its connections come back. The waiting is the attempt's.

// takeBack makes this process serve everything again, at once, and then sees to it that the candidate goes.
func (a *attempt) takeBack(cause error) error {
	detected := time.Now()
	waits := a.released && a.exclusive // for the candidate's end, to hold again what it needs to serve
	if a.mode != modeRevive && !waits {
		a.u.listeners.Open(true)
	}
	_ = a.u.listeners.PutBack() // what is in the way may go with the candidate
	a.stopSharing()
	a.cand.hangUp(true)
	here := time.Since(detected)
	if a.child == nil {
		return &Error{Phase: a.phase, Reason: cause.Error(), Err: cause}
	}
	atStep("old.taking-back")
	a.dismiss(cause)
	a.u.listeners.TakeReusePortBack()
	a.u.putPathsBack() // it may have removed more at its end
	if d := a.dispatcher.Load(); d != nil {
		a.settle(d, true)
	}
	a.reacquire()
	if waits {
		a.u.listeners.Open(true)
		here = time.Since(detected)
	}
	if !errors.Is(cause, errRehearsed) {
		a.u.log.Info("upgrade: taken back", "candidate", a.child.PID, "accepting_after", here, "ended_after", time.Since(detected))
	}
	e := &Error{Phase: a.phase, Reason: cause.Error(), PID: a.child.PID, Err: cause}
	if r := (*remoteError)(nil); errors.As(cause, &r) && r.Phase != "" {
		e.Phase = Phase(r.Phase)
	}
	if x := (*exitError)(nil); errors.As(cause, &x) {
		if text := a.crashText(); text != "" {
			e.Reason += ": " + text
		}
	}
	a.child.close()
	a.u.pid.Discard(a.child.PID)
	if a.mode != modeRevive && !a.u.pid.Owned() {
		if err := a.u.publish(); err != nil {
			a.u.log.Error("upgrade: cannot take the pid file back", "err", err)
		}
	}
	if errors.Is(cause, errRehearsed) {
		return nil
	}
	return e
}

// settle ends the sharing of connections.
func (a *attempt) settle(d *handoff.Dispatcher, reclaim bool) {
	if lost := d.Settle(reclaim); lost > 0 {
		a.u.log.Error("upgrade: connections are lost that the candidate has not served: no descriptors, or no listener", "connections", lost)
	}
}

// killLimit is how long a killed candidate may take to end, before the attempt ends without it: the candidate runs as another
// user, say, or is stuck in the kernel.
const killLimit = 5 * time.Second

// dismiss waits until the child has gone: one that can still listen finishes its requests first, a committed one that
// says nothing and one that takes too long are killed.
func (a *attempt) dismiss(cause error) {
	grace := a.u.opts.AbortGrace
	if !a.open {
		grace = min(grace, idleAbortGrace)
	}
	stopping := a.stopping
	body := wire.AbortBody{Reason: wire.Clip(cause.Error()), Stopping: a.isStopping() || errors.Is(cause, wire.ErrFrame)} // deaf to it
	if body.Stopping {
		stopping = nil
	}
	switch r := (*remoteError)(nil); {
	case a.plain:
		grace = a.u.opts.AbortGrace
		a.child.Signal(syscall.SIGTERM)
	case !errors.As(cause, &r) && a.isCommitting(), errors.As(cause, new(*silentError)):
		grace = 0
	default:
		_ = a.child.link.Send(wire.KindAbort, body) // fails if the candidate is dead, which is as good
	}
	atStep("old.aborted")
	kill := time.NewTimer(grace)
	defer kill.Stop()
	frames := a.child.link.Frames
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var unkilled <-chan time.Time
	for {
		select {
		case <-tick.C:
			if a.tick() != nil && unkilled == nil {
				kill.Reset(0) // nothing comes back from one that hangs
			}
		case f, ok := <-frames:
			if !ok { // what it returns is not heard, so it must not wait for an answer
				frames, body.Stopping = nil, true
				_ = a.child.link.Send(wire.KindAbort, body)
				continue
			}
			a.sign()
			a.takeState(f)
		case <-stopping: // only now: the candidate must not go on alone if this process is killed
			stopping, body.Stopping = nil, true
			_ = a.child.link.Send(wire.KindAbort, body)
		case <-kill.C:
			a.kill(grace)
			if unkilled == nil {
				unkilled = time.After(killLimit)
			}
		case <-unkilled:
			a.u.log.Error("upgrade: the candidate does not end although it was killed: end it by hand", "candidate", a.child.PID)
			return
		case <-a.child.Exited:
			a.lastFrames(frames)
			return
		}
	}
}

// kill kills the child, if it is still there.
func (a *attempt) kill(after time.Duration) {
	err := a.child.Kill()
	switch {
	case err != nil:
		a.u.log.Error("upgrade: cannot kill the candidate", "candidate", a.child.PID, "err", err)
	case !a.gone():
		a.u.log.Warn("upgrade: killed the candidate", "candidate", a.child.PID, "after", after)
	}
}

func (a *attempt) gone() bool {
	select {
	case <-a.child.Exited:
		return true
	default:
		return false
	}
}

// lastFrames takes what a child had sent before it ended.
func (a *attempt) lastFrames(frames <-chan wire.Frame) {
	late := time.After(commitStall)
	for frames != nil {
		select {
		case f, ok := <-frames:
			if !ok {
				return
			}
			a.takeState(f)
		case <-late:
			return
		}
	}
}

// takeState takes back what the candidate's values became while it served, and lets the candidate end.
func (a *attempt) takeState(f wire.Frame) {
	defer f.Close()
	if err := a.inOrder(f.Kind, phaseTakenBack); err != nil {
		if !a.unheard {
			a.unheard = true // the log needs one line of them
			a.u.log.Warn("upgrade: the candidate is not heard", "candidate", a.child.PID, "err", err)
		}
		return
	}
	if f.Kind == wire.KindConn {
		a.returned(f)
	}
	if f.Kind != wire.KindReturned {
		return
	}
	if len(f.Files) > 0 && a.mode != modeRevive {
		a.u.restore(a.child.PID, f.Files[0], nil)
	}
	atStep("old.returned")
	_ = a.child.link.Send(wire.KindReleased, nil) // fails if the candidate has not waited for it
}

// takeState takes what a process that goes gives back, if it gives anything.
func (u *Upgrader) takeState(from int, f wire.Frame, stop <-chan struct{}) {
	if len(f.Files) > 0 {
		u.restore(from, f.Files[0], stop)
	}
}

// restore gives the program the state that another process had, and does not wait for ever for a value that hangs, or
// beyond the end of this process.
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

// crashText returns how the Go runtime began to describe the child's crash, if it did.
func (a *attempt) crashText() string {
	if a.crash == nil {
		return ""
	}
	b := make([]byte, 2048)
	n, _ := a.crash.ReadAt(b, 0)
	text, _, _ := strings.Cut(string(b[:n]), "\ngoroutine ")
	return strings.Join(strings.Fields(text), " ")
}
