package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
)

// What runs beside an attempt: the functions of the program, and what else may take long. None can keep an attempt from its end.

// work is a function that runs in a goroutine of its own.
type work struct {
	name   string
	cancel context.CancelFunc // ends its context; nil: it has none
	done   chan struct{}      // closed when err is set
	err    error
}

// newWork starts a function. The error is unreturned if the function ends its goroutine.
func newWork(name string, cancel context.CancelFunc, unreturned error, fn func() error) *work {
	w := &work{name: name, cancel: cancel, done: make(chan struct{}), err: unreturned}
	go func() { // ends when fn does
		defer close(w.done)
		w.err = fn()
	}()
	return w
}

// ended is closed when the work has ended; nil without work.
func (w *work) ended() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.done
}

// stop ends the context of the work, and reports whether the work has ended within a limit.
func (w *work) stop(limit time.Duration) bool {
	if w == nil {
		return true
	}
	w.cancel()
	select {
	case <-w.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// awaitEnd waits until the work has ended, at most a moment longer than ctx.
func (w *work) awaitEnd(ctx context.Context) {
	if w == nil {
		return
	}
	select {
	case <-w.done:
		return
	case <-ctx.Done():
	}
	select {
	case <-w.done:
	case <-time.After(commitStall):
	}
}

// inTime returns a check that returns a moment after the end of its context at the latest: fn may ignore its context.
func inTime(fn func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		w := newWork("Check", nil, errors.New("it has ended its goroutine"), func() error {
			return guard.Call(func() error { return fn(ctx) })
		})
		w.awaitEnd(ctx)
		select {
		case <-w.done:
			return w.err
		default:
			return fmt.Errorf("it did not return when its context had ended: %w", context.Cause(ctx))
		}
	}
}

// judge is Options.Smoke or Options.Bake.
type judge = func(context.Context, *Candidate) error

// newSubscription calls a subscriber, which must not block. The error says so if the call does not return.
func newSubscription(fn func() error) *work {
	return newWork("Subscribe", nil, nil, func() error {
		w := newWork("Subscribe", nil, errors.New("a function of Candidate.Subscribe has ended its goroutine"), fn)
		late := time.NewTimer(commitStall)
		defer late.Stop()
		select {
		case <-w.done:
			return w.err
		case <-late.C:
			return fmt.Errorf("a function of Candidate.Subscribe has not returned within %v", commitStall)
		}
	})
}

// chosen is the program that is started.
type chosen struct {
	*work
	program process.Program
}

// choose finds the program out.
func choose(e *estate, h *history, o *Options, m mode) *chosen {
	c := new(chosen)
	c.work = newWork("choose", nil, errors.New("Options.Verify has ended its goroutine"), func() (err error) {
		if m == modeRollback {
			c.program, err = h.previous.program()
			return err
		}
		policy := m.policy(o)
		c.program, err = process.Preflight(o.Executable, o.Args, policy)
		if sys.TooManyFiles(err) && e.room.lend() { // not in room.with: Verify may take long
			c.program, err = process.Preflight(o.Executable, o.Args, policy)
		}
		return err
	})
	return c
}

// drop closes the program, if one was or will be chosen.
func (c *chosen) drop() {
	if c == nil {
		return
	}
	go func() { // ends when Verify does
		<-c.done
		c.program.Close()
	}()
}

// marshalled has the values of Keep.
type marshalled struct {
	*work
	state *os.File // nil: there are none
}

// drop closes the file, if there is or will be one.
func (m *marshalled) drop() {
	if m == nil {
		return
	}
	go func() { // ends when MarshalBinary does
		if <-m.done; m.state != nil {
			m.state.Close()
		}
	}()
}

// marshal begins to ask the program for its values.
func (e *estate) marshal() *marshalled {
	m := new(marshalled)
	m.work = newWork("marshal", nil, errors.New("the values of Keep were not marshalled: MarshalBinary has ended its goroutine"), func() (err error) {
		m.state, err = e.keeper.Snapshot()
		return err
	})
	return m
}
