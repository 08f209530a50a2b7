package upgrade

import (
	"context"
	"fmt"
	"time"

	"github.com/midair-go/midair/internal/guard"
)

// startChecks runs the checks beside serve, and sends their result. The returned function ends the checks and waits for them.
func (u *Upgrader) startChecks(result chan<- error, first bool) (stop func()) {
	since := u.welcome
	if since.IsZero() {
		since = time.Now()
	}
	// A bit less than the old process has, so that the reason gets there before it gives up.
	ctx, cancel := context.WithDeadline(context.Background(), since.Add(u.limit-u.limit/10))
	done := make(chan struct{})
	go func() {
		defer close(done)
		result <- u.prepare(ctx, first)
	}()
	return func() { cancel(); <-done }
}

// prepare returns when this process could serve, or the reason why not.
func (u *Upgrader) prepare(ctx context.Context, alone bool) error {
	if err := u.keeper.Err(); err != nil {
		return err
	}
	if err := u.pid.Stage(); err != nil && !alone { // a process that serves anyway logs the error then
		return err
	}
	if !u.born.Started.IsZero() {
		u.reserveOutcome() // of the upgrade that has started this process
	}
	if u.forgotten != nil {
		return u.forgotten
	}
	u.mu.Lock()
	checks := u.checks
	u.mu.Unlock()
	for _, c := range checks {
		if err := guard.Call(func() error { return c.fn(ctx) }); err != nil {
			return fmt.Errorf("check %q: %w", c.name, err)
		}
	}
	if err := u.listeners.Accepting(ctx); err != nil {
		return err
	}
	return u.listeners.PutBack()
}
