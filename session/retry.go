package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// maxAttempts is how often a write is tried while others come first. With the pauses it takes some seconds.
	maxAttempts = 400
	// maxPause is the longest pause between two attempts.
	maxPause = 20 * time.Millisecond
	// checkLimit is how long a request waits for what has to be done after the store has failed, or the client has gone away:
	// whether a write that has failed was made all the same, for example.
	checkLimit = 2 * time.Second
)

// final is an error that ends retry, whatever the error wraps.
type final struct{ error }

// retry calls fn until fn meets no other writer, at most maxAttempts times, and passes the number of earlier calls.
func retry(ctx context.Context, fn func(attempt int) error) error {
	for attempt := range maxAttempts {
		err := fn(attempt)
		var end final
		if errors.As(err, &end) {
			return end.error
		}
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
	return ErrConflict
}

// pause waits for a random time that grows with the attempts.
func pause(ctx context.Context, attempt int) error {
	longest := min(maxPause, 100*time.Microsecond<<min(attempt, 10))
	timer := time.NewTimer(rand.N(longest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("session: %w", context.Cause(ctx))
	}
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// finishing is the context of work that has to be done also if the client has gone away.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), checkLimit)
}
