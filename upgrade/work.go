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
	"github.com/midair-go/midair/upgrade/internal/state"
)

// The functions that run beside an attempt: functions of the program, and other functions that may take long. An attempt can
// end while such a function hangs.

// work is a call of a function in a goroutine of its own.
type work struct {
	name   string
	cancel context.CancelFunc // ends the context of the function; nil: the function has no context of its own
	done   chan struct{}      // closed when the function has ended
	err    error              // the result; must be read only after done was closed
}

// newWork calls fn in a goroutine of its own. The result of the work is normally the result of fn. But if fn ends the goroutine
// (runtime.Goexit) and so never returns, the result is the error in the argument unreturned.
func newWork(name string, cancel context.CancelFunc, unreturned error, fn func() error) *work {
	w := &work{name: name, cancel: cancel, done: make(chan struct{}), err: unreturned}
	go func() { // ends when fn does
		defer close(w.done)
		w.err = fn()
	}()
	return w
}

// ended returns a channel that is closed when the work has ended. The result is nil if w is nil.
func (w *work) ended() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.done
}

// stop ends the context of the work, and waits for the end of the work, but not longer than limit. It reports whether the work
// has ended.
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

// awaitEnd waits until the work has ended. If ctx ends before, awaitEnd waits at most commitStall longer.
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

// inTime returns a check that calls fn. When the context of the check ends, the check waits at most commitStall for fn. If fn
// has not returned by then, the check returns an error.
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

// newSubscription calls fn, the function of a subscriber, which must not block. If fn has not returned after commitStall, the
// work ends with an error.
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

// chosen has the work that chooses the program to start, and the chosen program.
type chosen struct {
	*work
	program process.Program // must be read only after the end of the work
}

// choose begins to look up and to check the program that an attempt will start. Normally the program is Options.Executable. In
// a rollback it is the previous build, and in modeRevive the committed build (see previous.replaced). But an open file can be
// started on Linux only. On other platforms modeRevive starts Options.Executable, which may be the aborted build.
func choose(e *estate, h *history, o *Options, m mode) *chosen {
	c := new(chosen)
	c.work = newWork("choose", nil, errors.New("Options.Verify has ended its goroutine"), func() (err error) {
		e.listeners.AwaitRemoval() // the candidate may open a socket at a path that this process is removing
		switch {
		case m == modeRollback:
			c.program, err = h.previous.program()
			return err
		case m == modeRevive && process.CanRunDescriptor:
			c.program, err = h.previous.replaced(o.Version)
			return err
		}
		policy := m.policy(o)
		c.program, err = process.Preflight(o.Executable, o.Args, policy)
		if sys.TooManyFiles(err) && e.room.lend() { // not room.with, which would make Accept wait while Verify runs
			c.program, err = process.Preflight(o.Executable, o.Args, policy)
		}
		return err
	})
	return c
}

// drop closes the program when the work has ended. It does nothing if c is nil.
func (c *chosen) drop() {
	if c == nil {
		return
	}
	go func() { // ends when the work has ended
		<-c.done
		c.program.Close()
	}()
}

// marshalled has the work that writes the values of Keep to a file, and the file.
type marshalled struct {
	*work
	state *os.File    // must be read only after the end of the work; nil: there are no values to send
	marks state.Marks // the marks of all values, for the next call of marshal; must be read only after the end of the work
}

// drop closes the file when the work has ended. It does nothing if m is nil.
func (m *marshalled) drop() {
	if m == nil {
		return
	}
	go func() { // ends when the work has ended
		if <-m.done; m.state != nil {
			m.state.Close()
		}
	}()
}

// marshal begins to write the values of Keep to a file. If the candidate has received values before, sent is the marks of these
// values, and the file has only the values that have changed since.
func (e *estate) marshal(sent state.Marks) *marshalled {
	m := new(marshalled)
	m.work = newWork("marshal", nil, errors.New("the values of Keep were not marshalled: MarshalBinary has ended its goroutine"), func() (err error) {
		m.state, m.marks, err = e.keeper.Snapshot(sent)
		return err
	})
	return m
}

// sent returns the marks of the values that the candidate has received with the welcome, and has restored before it was prepared.
// A value that has not changed since is not sent with the commit: the candidate's value is the newer one. A program that uses
// tableflip only gets no welcome.
func (m *marshalled) sent(welcomed bool) state.Marks {
	if !welcomed {
		return nil
	}
	return m.marks
}
