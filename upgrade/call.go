package upgrade

import (
	"context"
	"time"
)

// call is a function that runs beside the loop of Run, because it may take long or belongs to the program. The loop gets the
// result.
type call struct {
	cancel context.CancelFunc
	done   chan error // receives the result of the function
}

// startCall calls fn in a goroutine of its own, with a context that ends after the limit.
func startCall(limit time.Duration, fn func(context.Context) error) *call {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c := &call{cancel, make(chan error, 1)}
	go func() { c.done <- fn(ctx) }() // the loop, or snapshot.drop after the loop, waits for the result
	return c
}

// result returns the channel that receives the result; nil if c is nil.
func (c *call) result() <-chan error {
	if c == nil {
		return nil
	}
	return c.done
}

// stop ends the context of a call.
func (c *call) stop() {
	if c != nil {
		c.cancel()
	}
}
