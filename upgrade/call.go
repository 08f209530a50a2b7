package upgrade

import (
	"context"
	"time"
)

// call is a function that runs in another goroutine than the loop of Run: the function may take long, or may be a function of
// the program. The loop receives the result.
type call struct {
	cancel context.CancelFunc
	done   chan error // receives the result of the function
}

// startCall calls fn in a goroutine of its own, with a context that ends after the limit.
func startCall(limit time.Duration, fn func(context.Context) error) *call {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c := &call{cancel, make(chan error, 1)}
	go func() { c.done <- fn(ctx) }() // ends when fn returns; the loop receives the result, or snapshot.drop at the end of Run
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
