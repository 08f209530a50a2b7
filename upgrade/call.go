package upgrade

import (
	"context"
	"sync"
	"time"
)

// waitWithin waits until all goroutines of a group have ended, but at most for limit. If goroutines are left, it returns a
// channel that is closed when they have ended; otherwise it returns nil.
func waitWithin(group *sync.WaitGroup, limit time.Duration) (left chan struct{}) {
	c := make(chan struct{})
	go func() { // ends with the goroutines of the group
		defer close(c)
		group.Wait()
	}()
	select {
	case <-c:
		return nil
	case <-time.After(limit):
		return c
	}
}

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
	go func() { c.done <- fn(ctx) }() // ends when fn returns, because done has room for the result
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
