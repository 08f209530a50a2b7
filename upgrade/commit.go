package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// The commit, from the old process's side: it gives up what only one may hold, says its last word, and waits to hear
// that the new process serves. The constants and the waiting are those of the attempt.

// handOver commits. The new process calls Ready when it gets the frame; it has taken over when it says that it serves.
// Until then this one keeps its listeners, so that a process which dies in between leaves one that can go on.
func (a *attempt) handOver() error {
	if err := a.letGo(); err != nil {
		return err
	}
	body, files, err := a.lastWord()
	if err != nil {
		return err
	}
	for _, f := range files {
		defer f.Close()
	}
	atStep("old.commit")
	a.u.listeners.pause(true)
	a.stopSharing()
	if a.plain {
		return nil
	}
	if err := a.send(kindCommit, body, files...); err != nil {
		return err
	}
	atStep("old.committed")
	if err = a.confirmed(); err == nil {
		if d := a.dispatcher.Load(); d != nil {
			a.settle(d, false)
		}
	}
	atStep("old.handed-over")
	return err
}

// letGo releases what only one process may hold.
func (a *attempt) letGo() error {
	if len(a.u.resources.list()) == 0 {
		return nil
	}
	if a.exclusive {
		a.u.listeners.pause(true)
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

// confirmed waits for the word of the new process that it serves.
func (a *attempt) confirmed() error {
	f, err := a.until(kindServing, commitStall, nil)
	if errors.Is(err, errLimit) {
		if !a.exclusive {
			a.u.listeners.open(true)
		}
		f, err = a.until(kindServing, a.u.opts.Timeout, nil)
	}
	if errors.Is(err, errLimit) { // a process that was frozen finds its time over before it has read what came meanwhile
		f, err = a.until(kindServing, commitStall, nil)
	}
	if errors.Is(err, errLimit) {
		return fmt.Errorf("it did not confirm the commit within %v", a.u.opts.Timeout)
	}
	if err == nil && f.decode(&a.heir) != nil {
		a.heir = servingBody{} // it serves all the same
	}
	return err
}

// lastWord decides whether it is too late to abort, and collects what goes with the commit.
func (a *attempt) lastWord() (commitBody, []*os.File, error) {
	state, err := a.snapshot()
	if err != nil {
		return commitBody{}, nil, err
	}
	var files []*os.File
	if state != nil {
		files = append(files, state)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := context.Cause(a.ctx); err != nil {
		frame{files: files}.close()
		return commitBody{}, nil, fmt.Errorf("%w: %w", ErrAborted, err)
	}
	a.committing = true
	return commitBody{State: state != nil, Again: a.again}, files, nil
}

// snapshot asks the program for its values, and gives up with the attempt or after Timeout if it does not answer.
func (a *attempt) snapshot() (*os.File, error) {
	var state *os.File
	err := errors.New("the values of Keep were not marshalled: MarshalBinary has ended its goroutine")
	done := make(chan struct{})
	go func() {
		defer close(done)
		state, err = a.u.keeper.snapshot()
	}()
	_, waited := a.until(0, a.u.opts.Timeout, done)
	if errors.Is(waited, errOver) {
		return state, err
	}
	go func() { // ends when MarshalBinary does
		if <-done; state != nil {
			state.Close()
		}
	}()
	if errors.Is(waited, errLimit) {
		return nil, fmt.Errorf("a kept value's MarshalBinary did not return within %v", a.u.opts.Timeout)
	}
	return nil, waited
}
