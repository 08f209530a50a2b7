package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// What until ends with when nothing has gone wrong.
var (
	errLimit = errors.New("the time is over")
	errOver  = errors.New("over")
	errEarly = errors.New("committed by hand")
)

// exitError says that the child has ended.
type exitError struct {
	status string
	early  bool // before it said hello
}

func (e *exitError) Error() string {
	if e.early {
		return "it ended before upgrade.New: " + e.status
	}
	return "it ended: " + e.status
}

// remoteError is what the candidate said about its own failure.
type remoteError struct{ failedBody }

func (e *remoteError) Error() string { return e.Reason }

func (e *remoteError) Unwrap() error {
	if e.Aborted {
		return ErrAborted
	}
	return nil
}

// until waits for the next thing that matters: a frame of the wanted kind (0: none), the end of limit (0: none), over, a commit by
// hand, an abort, or the death of the child. All of an attempt's waiting is done here.
func (a *attempt) until(want kind, limit time.Duration, over <-chan struct{}) (frame, error) {
	var timeout <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		timeout = timer.C
	}
	frames, ready, early, aborted := a.child.link.frames, a.child.ready, a.early, a.ctx.Done()
	if a.phase != PhaseBake && a.phase != PhaseSoak {
		early = nil
	}
	if a.phase == PhaseCommit && a.isCommitting() {
		aborted = nil
	}
	if want != kindHello {
		ready = nil // the commit is confirmed by the frame, which comes after the byte
	}
	if a.plain {
		frames = nil // it has closed what it did not know
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := a.tick(); err != nil {
				return frame{}, err
			}
		case f, ok := <-frames:
			if !ok && want == kindHello && a.child.link.broken == nil {
				frames = nil // a program that knows tableflip only closes it
				continue
			}
			if !ok {
				return frame{}, a.linkLost()
			}
			if err := a.hear(f); err != nil {
				return frame{}, err
			}
			if want != 0 && f.kind == want {
				return f, nil
			}
		case <-ready:
			a.plain = true
			return frame{}, nil
		case <-a.child.exited:
			return frame{}, a.exited()
		case <-timeout:
			return frame{}, errLimit
		case <-over:
			return frame{}, errOver
		case <-early:
			return frame{}, errEarly
		case <-aborted:
			return frame{}, fmt.Errorf("%w: %w", ErrAborted, context.Cause(a.ctx))
		}
	}
}

// tickEvery is how often an attempt looks at what nobody tells it.
const tickEvery = 50 * time.Millisecond

// silentError says that the candidate gave no sign of life.
type silentError struct{ limit time.Duration }

func (e *silentError) Error() string {
	return fmt.Sprintf("it said nothing for %v: it hangs, or the machine is too busy for Options.Silence", e.limit)
}

// tick looks after the passed connections, and whether the candidate lives.
func (a *attempt) tick() error {
	spoke := a.spoke.Load()
	if spoke == 0 {
		return nil
	}
	a.dispatcher.Load().sweep()
	if time.Since(time.Unix(0, spoke)) < a.u.opts.Silence || a.isCommitting() { // the commit has a limit of its own
		a.silent = 0
		return nil
	}
	if a.silent++; a.silent < 3 { // this process may have been the one that slept: what has come is heard first
		return nil
	}
	return &silentError{a.u.opts.Silence}
}

// heard notes a sign of life.
func (a *attempt) heard() { a.spoke.Store(time.Now().UnixNano()) }

// sign notes a sign of life of a candidate that has to give some.
func (a *attempt) sign() {
	if a.spoke.Load() != 0 {
		a.heard()
	}
}

// hear handles what a candidate may say at any time.
func (a *attempt) hear(f frame) error {
	defer f.close()
	a.sign()
	switch f.kind {
	case kindFailed:
		return a.failed(f)
	case kindDialed:
		a.cand.dialed(f)
	case kindMessage:
		if a.phase == PhaseBake {
			return a.cand.heardMessage(f)
		}
	case kindConn:
		a.returned(f)
	}
	return nil
}

// returned takes back a connection that the candidate sends.
func (a *attempt) returned(f frame) {
	var about connBody
	if f.decode(&about) != nil {
		return
	}
	files := f.files
	if d := a.dispatcher.Load(); d != nil {
		if own := d.returned(about.Slot); own != nil {
			defer own.Close()
			files = append(files, own)
		}
	}
	if len(files) == 0 {
		a.u.log.Error("upgrade: a connection is lost that the candidate has sent back: too many files are open", "candidate", a.child.pid)
		return
	}
	about.Slot = 0
	_ = a.u.listeners.giveMoved(about, files[0], nil) // its listener was closed meanwhile: nobody could serve it
}

func (a *attempt) isCommitting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.committing
}

// send tells the candidate something. If that one does not listen any more, what it said last is the reason, or how it ended.
func (a *attempt) send(k kind, body any, files ...*os.File) error {
	err := a.child.link.send(k, body, files...)
	if err == nil {
		return nil
	}
	if gone(err) {
		if _, why := a.until(0, commitStall, nil); !errors.Is(why, errLimit) && !errors.Is(why, errEarly) {
			return why
		}
	}
	return fmt.Errorf("control socket: %w", err)
}

// linkLost tells a dead child, whose exit is known a moment later, from one that has cut the control socket.
func (a *attempt) linkLost() error {
	select {
	case <-a.child.exited:
		return a.exited()
	case <-time.After(commitStall):
		if err := a.child.link.broken; err != nil {
			return err
		}
		return errors.New("it closed the control socket")
	}
}

// exited gives the child's own words, if it left any, before its exit status.
func (a *attempt) exited() error {
	late := time.After(commitStall)
	for {
		select {
		case f, ok := <-a.child.link.frames:
			if !ok {
				return &exitError{a.child.status, a.phase == PhaseStart && a.cand.version == ""}
			}
			if err := a.hear(f); err != nil {
				return err
			}
		case <-late:
			return &exitError{a.child.status, a.phase == PhaseStart && a.cand.version == ""}
		}
	}
}

func (a *attempt) failed(f frame) error {
	e := new(remoteError)
	if err := f.decode(&e.failedBody); err != nil {
		return err
	}
	return e
}

// takeBack makes this process serve everything again, at once, and then sees to it that the candidate goes.
func (a *attempt) takeBack(cause error) error {
	detected := time.Now()
	waits := a.released && a.exclusive // for the candidate's end, to hold again what it needs to serve
	if a.mode != modeRevive && !waits {
		a.u.listeners.open(true)
	}
	a.stopSharing()
	a.cand.hangUp(true)
	here := time.Since(detected)
	if a.child == nil {
		return &Error{Phase: a.phase, Reason: cause.Error(), Err: cause}
	}
	atStep("old.taking-back")
	a.dismiss(cause)
	if d := a.dispatcher.Load(); d != nil {
		d.settle(true)
	}
	a.reacquire()
	if waits {
		a.u.listeners.open(true)
		here = time.Since(detected)
	}
	a.u.log.Info("upgrade: taken back", "candidate", a.child.pid, "accepting_after", here, "ended_after", time.Since(detected))
	e := &Error{Phase: a.phase, Reason: cause.Error(), PID: a.child.pid, Err: cause}
	if r := (*remoteError)(nil); errors.As(cause, &r) && r.Phase != "" {
		e.Phase = r.Phase
	}
	if x := (*exitError)(nil); errors.As(cause, &x) {
		if text := a.crashText(); text != "" {
			e.Reason += ": " + text
		}
	}
	a.child.close()
	a.u.pid.discard(a.child.pid)
	if a.mode != modeRevive && !a.u.pid.owned() {
		if err := a.u.pid.publish(); err != nil {
			a.u.log.Error("upgrade: cannot take the pid file back", "err", err)
		}
	}
	if errors.Is(cause, errRehearsed) {
		return nil
	}
	return e
}

// dismiss waits until the child has gone: one that can still listen finishes its requests first, a committed one that
// says nothing and one that takes too long are killed.
func (a *attempt) dismiss(cause error) {
	grace := a.u.opts.AbortGrace
	if !a.open {
		grace = min(grace, idleAbortGrace)
	}
	stopping := a.stopping
	body := abortBody{Reason: clip(cause.Error()), Stopping: a.isStopping() || errors.Is(cause, errFrame)} // deaf to it
	if body.Stopping {
		stopping = nil
	}
	switch r := (*remoteError)(nil); {
	case a.plain:
		grace = a.u.opts.AbortGrace
		a.child.signal(syscall.SIGTERM)
	case !errors.As(cause, &r) && a.isCommitting(), errors.As(cause, new(*silentError)):
		grace = 0
	default:
		_ = a.child.link.send(kindAbort, body) // fails if the candidate is dead, which is as good
	}
	atStep("old.aborted")
	kill := time.NewTimer(grace)
	defer kill.Stop()
	frames := a.child.link.frames
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if a.tick() != nil {
				kill.Reset(0) // nothing comes back from one that hangs
			}
		case f, ok := <-frames:
			if !ok { // what it returns is not heard, so it must not wait for an answer
				frames, body.Stopping = nil, true
				_ = a.child.link.send(kindAbort, body)
				continue
			}
			a.sign()
			a.takeState(f)
		case <-stopping: // only now: the candidate must not go on alone if this process is killed
			stopping, body.Stopping = nil, true
			_ = a.child.link.send(kindAbort, body)
		case <-kill.C:
			a.child.kill()
			if !a.gone() {
				a.u.log.Warn("upgrade: killed the candidate", "candidate", a.child.pid, "after", grace)
			}
		case <-a.child.exited:
			a.lastFrames(frames)
			return
		}
	}
}

func (a *attempt) gone() bool {
	select {
	case <-a.child.exited:
		return true
	default:
		return false
	}
}

// lastFrames takes what a child had sent before it ended.
func (a *attempt) lastFrames(frames <-chan frame) {
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
func (a *attempt) takeState(f frame) {
	defer f.close()
	if f.kind == kindConn {
		a.returned(f)
	}
	if f.kind != kindReturned {
		return
	}
	if len(f.files) > 0 && a.mode != modeRevive {
		a.restore(f.files[0])
	}
	atStep("old.returned")
	_ = a.child.link.send(kindReleased, nil) // fails if the candidate has not waited for it
}

// restore gives the program its state back, and does not wait for ever for a value that hangs.
func (a *attempt) restore(state *os.File) {
	done := make(chan error, 1)
	go func() { done <- a.u.keeper.receive(state) }() // ends when UnmarshalBinary does
	var err error
	select {
	case err = <-done:
	case <-time.After(a.u.opts.Timeout):
		err = fmt.Errorf("a kept value's UnmarshalBinary did not return within %v", a.u.opts.Timeout)
	}
	if err != nil {
		a.u.log.Error("upgrade: cannot take the candidate's state back", "candidate", a.child.pid, "err", err)
	}
	a.u.keeper.forget()
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
