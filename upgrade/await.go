package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// until waits for the next thing that matters: a frame of the wanted kind (0: none), the end of limit (0: none), over, a
// commit by hand, an abort, or the death of the child. All of an attempt's waiting is done here.
func (a *attempt) until(want kind, limit time.Duration, over <-chan struct{}) (frame, error) {
	var timeout <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		timeout = timer.C
	}
	frames, ready, early, aborted := a.child.link.frames, a.child.Ready, a.early, a.ctx.Done()
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
		case <-a.child.Exited:
			return a.exited(want)
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
	err := errMissing
	if len(f.files) > 0 {
		here := about
		here.Slot = 0
		err = giveMoved(a.u.listeners, here, f.files[0], nil)
	}
	d := a.dispatcher.Load()
	if kept := d != nil && d.returned(about, err == nil); !kept && err != nil {
		a.u.log.Error("upgrade: a connection is lost that the candidate has sent back", "candidate", a.child.PID, "err", err)
	}
}

func (a *attempt) isCommitting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.committing
}

// send tells the candidate something. If that one does not listen any more, what it said last is the reason, or how it
// ended.
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
	case <-a.child.Exited:
		_, err := a.exited(0)
		return err
	case <-time.After(commitStall):
		if err := a.child.link.broken; err != nil {
			return err
		}
		return errors.New("it closed the control socket")
	}
}

// exited gives the child's own words, if it left any, before its exit status. One that has said hello, and ended before
// that was read, has got further than its start.
func (a *attempt) exited(want kind) (frame, error) {
	late := time.After(commitStall)
	for {
		select {
		case f, ok := <-a.child.link.frames:
			if !ok {
				return frame{}, &exitError{a.child.Status, a.phase == PhaseStart && a.cand.version == ""}
			}
			if err := a.hear(f); err != nil {
				return frame{}, err
			}
			if want == kindHello && f.kind == want {
				return f, nil
			}
		case <-late:
			return frame{}, &exitError{a.child.Status, a.phase == PhaseStart && a.cand.version == ""}
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
