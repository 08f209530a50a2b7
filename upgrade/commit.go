package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The commit, from the old process's side: it gives up what only one may hold, says its last word, and waits to hear
// that the new process serves. The constants and the waiting are those of the attempt.

// handOver commits. The new process calls Ready when it gets the frame; it has taken over when it says that it serves.
// Until then this one keeps its listeners, so that a process which dies in between leaves one that can go on.
func (a *attempt) handOver() error {
	if err := a.announceCommit(); err != nil {
		return err
	}
	if err := a.letGo(); err != nil {
		return err
	}
	state := a.marshal()
	defer state.drop()
	body, files, err := a.lastWord(state)
	if err != nil {
		return err
	}
	atStep("old.commit")
	a.u.listeners.Pause(true)
	a.stopSharing()
	if a.plain {
		return nil
	}
	if err := a.send(wire.KindCommit, body, files...); err != nil {
		return err
	}
	atStep("old.committed")
	since, err := a.confirmed()
	if err == nil {
		err = a.name(since)
	}
	if err == nil {
		if d := a.dispatcher.Load(); d != nil {
			a.settle(d, false)
		}
	}
	atStep("old.handed-over")
	return err
}

// name tells systemd that the candidate, which has served since that time, is the main process: systemd may drop what the candidate says
// before. The message must not be late: the candidate may have been replaced by then. A candidate that dies before systemd has read the
// message, other than by a stop, has not been the service: systemd would take the end of this process, with status 0, for the end of the
// service.
func (a *attempt) name(since time.Duration) error {
	if !a.u.systemd {
		return nil
	}
	due := time.Now().Add(since + nameLimit - sys.Uptime())
	atStep("old.confirmed")
	err := a.died(due)
	if err == nil && a.u.manager.Name(a.child.PID, due) == nil { // else the candidate's own message has to do
		a.u.manager.Barrier(due)
		err = a.died(due.Add((nameWait - nameLimit) / 2)) // the candidate is not replaced before nameWait
	}
	if err == nil {
		_ = a.child.link.Send(wire.KindNamed, nil) // fails if it has ended
	}
	return err
}

// died returns how the candidate has ended, if that was no stop. From a time on it may have been replaced, and has not died.
func (a *attempt) died(until time.Time) error {
	if !a.child.Ended() || !time.Now().Before(until) {
		return nil
	}
	<-a.child.Exited // a moment after its end
	if a.child.Status == "exit status 0" {
		return nil
	}
	return fmt.Errorf("it ended before systemd knew it: %s", a.child.Status)
}

// announceCommit tells the supervisor that the candidate may be the service from now on.
func (a *attempt) announceCommit() error {
	if !a.u.manager.Supervised() {
		return nil
	}
	var err error
	done := make(chan struct{})
	go func() { // ends after five seconds, or when Run leaves the supervisor
		defer close(done)
		err = a.u.manager.Committing()
	}()
	_, waited := a.until(0, 0, done)
	if errors.Is(waited, errOver) {
		return err
	}
	return waited
}

// letGo releases what only one process may hold.
func (a *attempt) letGo() error {
	if len(a.u.resources.list()) == 0 {
		return nil
	}
	if a.exclusive {
		a.u.listeners.Pause(true)
	}
	a.released = true
	ctx, cancel := context.WithTimeout(a.ctx, a.u.opts.Timeout)
	defer cancel()
	var err error
	done := make(chan struct{})
	go func() { // ends when Release has, or a moment after its context
		defer close(done)
		err = a.u.resources.release(ctx)
	}()
	_, waited := a.until(0, 0, done)
	cancel()
	<-done
	atStep("old.released")
	if !errors.Is(waited, errOver) {
		return waited
	}
	return err
}

// confirmed waits for the word of the new process that it serves, and returns since when, by sys.Uptime.
func (a *attempt) confirmed() (since time.Duration, err error) {
	f, err := a.until(wire.KindServing, commitStall, nil)
	if errors.Is(err, errLimit) {
		if !a.exclusive {
			a.u.listeners.Open(true)
		}
		f, err = a.until(wire.KindServing, a.u.opts.Timeout, nil)
	}
	if errors.Is(err, errLimit) { // a process that was frozen finds its time over before it has read what came meanwhile
		f, err = a.until(wire.KindServing, commitStall, nil)
	}
	if errors.Is(err, errLimit) {
		return 0, fmt.Errorf("it did not confirm the commit within %v", a.u.opts.Timeout)
	}
	defer f.Close()
	var body wire.ServingBody
	if err == nil && len(f.Body) > 0 { // an earlier build says nothing
		err = f.Decode(&body)
	}
	return cmp.Or(body.Since, sys.Uptime()), err
}

// lastWord decides whether it is too late to abort, and collects what goes with the commit.
func (a *attempt) lastWord(m *marshalled) (wire.CommitBody, []*os.File, error) {
	state, err := a.snapshot(m)
	if err != nil {
		return wire.CommitBody{}, nil, err
	}
	if a.isReadyEarly() {
		return wire.CommitBody{}, nil, &wordError{readyWord, a.phase}
	}
	var files []*os.File
	if state != nil {
		files = append(files, state)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return wire.CommitBody{}, nil, a.aborted()
	}
	a.committing = true
	return wire.CommitBody{State: state != nil, Again: a.again}, files, nil
}

// marshalled is what the program's values are, or are about to be.
type marshalled struct {
	done  chan struct{} // closed when the rest is set
	state *os.File      // nil: there are none
	err   error
}

// marshal begins to ask the program for its values.
func (a *attempt) marshal() *marshalled {
	m := &marshalled{done: make(chan struct{}), err: errors.New("the values of Keep were not marshalled: MarshalBinary has ended its goroutine")}
	go func() { // ends when MarshalBinary does
		defer close(m.done)
		m.state, m.err = a.u.keeper.Snapshot()
	}()
	return m
}

// drop closes the file, if there is or will be one.
func (m *marshalled) drop() {
	go func() { // ends when MarshalBinary does
		if <-m.done; m.state != nil {
			m.state.Close()
		}
	}()
}

// snapshot waits for the values, and gives up with the attempt or after Timeout. The file is m's.
func (a *attempt) snapshot(m *marshalled) (*os.File, error) {
	_, waited := a.until(0, a.u.opts.Timeout, m.done)
	if errors.Is(waited, errOver) {
		return m.state, m.err
	}
	if errors.Is(waited, errLimit) {
		return nil, fmt.Errorf("a kept value's MarshalBinary did not return within %v", a.u.opts.Timeout)
	}
	return nil, waited
}
