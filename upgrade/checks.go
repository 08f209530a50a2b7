package upgrade

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/guard"
)

// checks has the conditions that must hold before the program may serve, in the order of the calls of Check.
type checks struct {
	mu  sync.Mutex
	all []check
}

type check struct {
	name string
	fn   func(context.Context) error
}

func (c *checks) add(name string, fn func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, check{name, fn})
}

func (c *checks) list() []check {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// startChecks runs the checks in a new goroutine, while serve runs, and sends the result to the channel result. An error in
// forgotten (the result of compareSockets) counts as a failed check. first is true if this process replaces no other process.
// The returned function ends the context of the checks, and waits until the checks have ended.
func startChecks(p *parts, forgotten error, result chan<- error, first bool) (stop func()) {
	since := p.origin.welcome
	if since.IsZero() {
		since = time.Now()
	}
	// The checks get nine tenths of the time that the old process waits: if a check fails, its error must reach the old
	// process in time.
	ctx, cancel := context.WithDeadline(context.Background(), since.Add(p.origin.limit-p.origin.limit/10))
	done := make(chan struct{})
	go func() {
		defer close(done)
		result <- prepare(ctx, p, forgotten, first)
	}()
	return func() { cancel(); <-done }
}

// prepare runs the checks. It returns nil if this process is ready to serve, or else the reason why it is not. If alone is
// true, no other process serves. In that case a pid file that cannot be staged is not a failure.
func prepare(ctx context.Context, p *parts, forgotten error, alone bool) error {
	if err := p.estate.keeper.Err(); err != nil {
		return err
	}
	if err := p.estate.pid.Stage(); err != nil && !alone { // if alone is true, the error is logged later
		return err
	}
	if !p.origin.born.Started.IsZero() {
		p.estate.reserveOutcome() // for the outcome of the upgrade that has started this process
	}
	if forgotten != nil {
		return forgotten
	}
	for _, c := range p.checks.list() {
		if err := guard.Call(func() error { return c.fn(ctx) }); err != nil {
			return fmt.Errorf("check %q: %w", c.name, err)
		}
	}
	if err := p.estate.listeners.Accepting(ctx); err != nil {
		return err
	}
	return p.estate.listeners.PutBack()
}
