package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
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
type remoteError struct{ wire.FailedBody }

func (e *remoteError) Error() string { return e.Reason }

func (e *remoteError) Unwrap() error {
	if e.Aborted {
		return ErrAborted
	}
	return nil
}

// until waits for the next thing that matters: a frame of the wanted kind (0: none), the end of limit (0: none), over, a
// commit by hand, an abort, the Ready byte, a message out of order, a lost link, a silent candidate, or the death of the child.
// It is the select of all phases. After an attempt is taken back, dismiss and lastFrames (abort.go) read the messages of the
// candidate, and after its death exited does: a new kind of message that may come then has to be handled there too.
func (a *attempt) until(want wire.Kind, limit time.Duration, over <-chan struct{}) (wire.Frame, error) {
	var timeout <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		timeout = timer.C
	}
	frames, ready, early, aborted := a.child.link.Frames, a.child.Ready, a.early, a.ctx.Done()
	if a.phase != PhaseBake && a.phase != PhaseSoak {
		early = nil
	}
	if a.phase == PhaseCommit && a.isCommitting() {
		aborted = nil
	}
	if a.plain || a.isCommitting() {
		ready = nil // the commit is confirmed by the frame, which comes after the byte
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := a.tick(); err != nil {
				return wire.Frame{}, err
			}
		case f, ok := <-frames:
			if !ok && (a.plain || want == wire.KindHello) && a.child.link.Broken == nil {
				frames = nil // a program that knows tableflip only closes what it does not know
				continue
			}
			if !ok {
				return wire.Frame{}, a.linkLost()
			}
			if err := a.hear(f); err != nil {
				return wire.Frame{}, err
			}
			if want != 0 && f.Kind == want {
				return f, nil
			}
		case <-ready:
			return wire.Frame{}, a.readyByte()
		case <-a.child.Exited:
			return a.exited(want)
		case <-timeout:
			return wire.Frame{}, errLimit
		case <-over:
			if aborted != nil && a.ctx.Err() != nil { // what was waited for may have ended because of the abort
				return wire.Frame{}, a.aborted()
			}
			return wire.Frame{}, errOver
		case <-early:
			return wire.Frame{}, errEarly
		case <-aborted:
			return wire.Frame{}, a.aborted()
		}
	}
}

// aborted is how an attempt ends that was aborted by hand.
func (a *attempt) aborted() error { return fmt.Errorf("%w: %w", ErrAborted, context.Cause(a.ctx)) }

// whyNot returns why a judge is against the candidate; nil if the judge is not. A judge may see the end of the candidate before
// the attempt does, as an error of its connection: then the candidate's end is the reason.
func (a *attempt) whyNot(judge string, verdict error) error {
	if verdict == nil {
		return nil
	}
	_, why := a.until(0, tickEvery, nil)
	if errors.As(why, new(*exitError)) || errors.As(why, new(*remoteError)) {
		return fmt.Errorf("%w (Options.%s: %w)", why, judge, verdict)
	}
	return verdict
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
	a.dispatcher.Load().Sweep()
	if sys.Uptime()-time.Duration(spoke) < a.u.opts.Silence || a.isCommitting() { // the commit has a limit of its own
		a.silent = 0
		return nil
	}
	if a.silent++; a.silent < 3 { // this process may have been the one that slept: what has come is heard first
		return nil
	}
	return &silentError{a.u.opts.Silence}
}

// heard notes a sign of life.
func (a *attempt) heard() { a.spoke.Store(int64(sys.Uptime())) }

// sign notes a sign of life of a candidate that has to give some.
func (a *attempt) sign() {
	if a.spoke.Load() != 0 {
		a.heard()
	}
}

// hear handles what a candidate may say beside what is waited for, and ends the attempt if it may not say that now.
func (a *attempt) hear(f wire.Frame) error {
	defer f.Close()
	if err := a.inOrder(f.Kind, a.phase); err != nil {
		return err
	}
	a.sign()
	switch f.Kind {
	case wire.KindFailed:
		return a.failed(f)
	case wire.KindListeners:
		return a.more(f)
	case wire.KindTakes:
		return a.takes.Hear(f)
	case wire.KindDialed:
		a.cand.dialed(f)
	case wire.KindMessage:
		if a.phase == PhaseBake {
			return a.cand.heardMessage(f)
		}
	case wire.KindConn:
		a.returned(f)
	}
	return nil
}

// returned takes back a connection that the candidate sends.
func (a *attempt) returned(f wire.Frame) {
	var about wire.ConnBody
	if f.Decode(&about) != nil {
		return
	}
	err := wire.ErrMissing
	if len(f.Files) > 0 {
		here := about
		here.Slot = 0
		err = handoff.GiveMoved(a.u.listeners, here, f.Files[0], nil)
	}
	d := a.dispatcher.Load()
	if kept := d != nil && d.Returned(about, err == nil); !kept && err != nil {
		a.u.log.Error("upgrade: a connection is lost that the candidate has sent back", "candidate", a.child.PID, "err", err)
	}
}

func (a *attempt) isCommitting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.committing
}

// send tells the candidate something. If the candidate has closed the socket, the error is its last message, or else its
// exit status.
func (a *attempt) send(k wire.Kind, body any, files ...*os.File) error {
	err := a.child.link.Send(k, body, files...)
	if err == nil {
		return nil
	}
	if wire.Gone(err) {
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
		if err := a.child.link.Broken; err != nil {
			return err
		}
		return errors.New("it closed the control socket")
	}
}

// exited gives the child's own words, if it left any, before its exit status. A hello that was not read before is returned:
// the failure belongs to a later phase than start.
func (a *attempt) exited(want wire.Kind) (wire.Frame, error) {
	late := time.After(commitStall)
	for {
		select {
		case f, ok := <-a.child.link.Frames:
			if !ok {
				return wire.Frame{}, &exitError{a.child.Status, a.phase == PhaseStart && a.cand.version == ""}
			}
			if err := a.hear(f); err != nil {
				return wire.Frame{}, err
			}
			if want == wire.KindHello && f.Kind == want {
				return f, nil
			}
		case <-late:
			return wire.Frame{}, &exitError{a.child.Status, a.phase == PhaseStart && a.cand.version == ""}
		}
	}
}

func (a *attempt) failed(f wire.Frame) error {
	e := new(remoteError)
	if err := f.Decode(&e.FailedBody); err != nil {
		return err
	}
	return e
}

// inOrder notes a message of the candidate, or returns a *wordError if it may not come now.
func (a *attempt) inOrder(k wire.Kind, now Phase) error {
	if !k.Known() {
		return nil
	}
	if a.plain || !ruleOf(k, now).allows(a.came[k], a.child.link.Sent) {
		return &wordError{fmt.Sprintf("message %v", k), now}
	}
	if a.came == nil {
		a.came = map[wire.Kind]bool{}
	}
	a.came[k] = true
	return nil
}

// helloDelay is how long the Ready byte waits for a hello that was sent before it.
const helloDelay = 100 * time.Millisecond

// readyByte decides what the Ready byte means before the commit message. From a candidate that has said hello, it is a word out of
// order. It is the only word of a program that knows tableflip only, which has closed the control socket before.
func (a *attempt) readyByte() error {
	late := time.NewTimer(helloDelay)
	defer late.Stop()
	for !a.came[wire.KindHello] {
		select {
		case f, ok := <-a.child.link.Frames:
			switch {
			case ok:
				if err := a.hear(f); err != nil {
					return err
				}
				continue
			case a.child.link.Broken != nil:
				return a.linkLost()
			}
		case <-late.C:
		}
		a.plain = true
		return nil
	}
	return &wordError{readyWord, a.phase}
}

// isReadyEarly reports whether the Ready byte of a candidate that has said hello has come. It is asked for the last time before
// the commit message.
func (a *attempt) isReadyEarly() bool {
	select {
	case <-a.child.Ready:
		return !a.plain
	default:
		return false
	}
}

// unlessMore holds an early welcome back while there are sockets to send: they come first.
func (a *attempt) unlessMore(over <-chan struct{}) <-chan struct{} {
	if len(a.child.passing.rest) > 0 {
		return nil
	}
	return over
}

// more sends the next sockets to a candidate that has taken those before.
func (a *attempt) more(f wire.Frame) error {
	var took wire.ListenersBody
	if err := f.Decode(&took); err != nil {
		return err
	}
	s := a.child.passing
	if took.Total != s.sent || len(s.rest) == 0 {
		return s.counted(took.Total)
	}
	atStep("old.taken")
	err := a.child.Queued(func() error { return s.next(a.child.link.Send) })
	if errors.Is(err, os.ErrProcessDone) || wire.Gone(err) {
		return nil // its end is the reason
	}
	return err
}

// tookAll notes that the candidate has its sockets, and needs this process for none of them.
func (a *attempt) tookAll() {
	a.child.Took()
	a.child.passing.close()
}

// awaitWrites waits until this process does not write its pid file and outcome any more, if it was about to: the candidate
// writes them from the commit on.
func (a *attempt) awaitWrites() error {
	a.phase = PhaseStart
	if a.writes == nil {
		return nil
	}
	select {
	case <-a.writes:
		return nil
	case <-a.ctx.Done():
		return a.aborted()
	case <-time.After(a.u.opts.Timeout):
		return fmt.Errorf("the file system of the pid file does not answer within %v: look at %s", a.u.opts.Timeout, a.u.opts.PIDFile)
	}
}
