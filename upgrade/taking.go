package upgrade

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/midair-go/midair/upgrade/internal/state"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Kept values and exclusive resources on the candidate's side. Both need functions of the program, and such a function may
// hang. So these functions run in goroutines, and the loop of Run can go on to receive messages, signals and the death of the
// old process.

// taking is the handling of a commit message: its values are restored, and the exclusive resources acquired.
type taking struct {
	*call      // nil: there is nothing to take
	again bool // another upgrade was asked for during the attempt
}

// result returns the channel that receives the result; nil if t is nil.
func (t *taking) result() <-chan error {
	if t == nil {
		return nil
	}
	return t.call.result()
}

// stop ends the context of the call.
func (t *taking) stop() {
	if t != nil {
		t.call.stop()
	}
}

// startTaking begins to restore the values in a commit message, and to acquire the resources. Both together may take nine
// tenths of limit. An error means that the message cannot be read.
func startTaking(e *estate, limit time.Duration, f wire.Frame) (*taking, error) {
	var body wire.CommitBody
	if err := f.Decode(&body); err != nil {
		return &taking{}, err
	}
	t := &taking{again: body.Again}
	var state *os.File
	if body.State && len(f.Files) > 0 {
		state, f.Files[0] = f.Files[0], nil
	}
	if state != nil || len(e.resources.list()) > 0 {
		limit -= limit / 10 // less than the limit of the old process, which has to receive the reason of a failure in time
		t.call = startCall(limit, func(ctx context.Context) error { return takeCommitted(ctx, e, state) })
	}
	return t, nil
}

// takeCommitted restores the values in the file state, and then acquires the resources. If state is nil, there are no values.
func takeCommitted(ctx context.Context, e *estate, state *os.File) error {
	if state == nil {
		return e.acquire(ctx)
	}
	received := make(chan error, 1)
	go func() { // ends when UnmarshalBinary returns
		defer state.Close()
		received <- e.keeper.Receive(state)
	}()
	select {
	case err := <-received:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("a kept value's UnmarshalBinary has not returned: %w", context.Cause(ctx))
	}
	return e.acquire(ctx)
}

// snapshot is a file of the kept values that is being written.
type snapshot struct {
	*call
	state *os.File // must be read only after the result; nil: there are no values
}

// startSnapshot begins to write the program's kept values to a file. If this takes longer than the limit, the result is an
// error.
func startSnapshot(k *state.Keeper, limit time.Duration) *snapshot {
	s := new(snapshot)
	s.call = startCall(limit, func(ctx context.Context) error {
		type written struct {
			state *os.File
			err   error
		}
		done := make(chan written, 1)
		go func() { // ends when MarshalBinary returns
			file, _, err := k.Snapshot(nil)
			done <- written{file, err}
		}()
		select {
		case w := <-done:
			s.state = w.state
			return w.err
		case <-ctx.Done():
		}
		go func() { // ends when MarshalBinary returns
			if w := <-done; w.state != nil {
				w.state.Close()
			}
		}()
		return fmt.Errorf("a kept value's MarshalBinary has not returned: %w", context.Cause(ctx))
	})
	return s
}

// result returns the channel that receives the result of the writing; nil if s is nil.
func (s *snapshot) result() <-chan error {
	if s == nil {
		return nil
	}
	return s.call.result()
}

// drop ends a snapshot whose result the loop has not received, and closes the file.
func (s *snapshot) drop() {
	if s == nil {
		return
	}
	s.stop()
	if <-s.done; s.state != nil {
		s.state.Close()
	}
}
