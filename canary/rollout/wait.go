package rollout

import (
	"context"
	"time"
)

const (
	lookEvery = 100 * time.Millisecond // how often Run looks at the evidence and at the step
	sendEvery = time.Second            // how often evidence is sent that is not urgent
	tellLimit = 5 * time.Second        // how long Options.Decided has for the last decisions when Run ends
)

// pause waits, and returns an error if ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// poke puts a value into a channel with room for one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
