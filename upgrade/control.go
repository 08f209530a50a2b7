package upgrade

import (
	"context"
	"fmt"
	"sync"
)

// The requests of callers to the goroutine of Run.

type op int

const (
	opUpgrade op = iota
	opCommit
	opAbort
)

type request struct {
	op    op
	mode  mode            // for an upgrade
	ctx   context.Context // for an upgrade: the context whose values, such as a span, the attempt uses
	cause error           // for an abort: the reason
	only  chan error      // for an abort: the reply channel of the upgrade to abort; nil: abort any upgrade
	reply chan error      // buffered: receives one answer
}

// runStage is the stage of the Upgrader's only call of Run.
type runStage int

const (
	runAwaited runStage = iota // neither Run nor Close was called
	runBegun
	runClosed // Close was called, before Run or during Run
)

// control has the channels by which callers reach the goroutine of Run.
type control struct {
	requests chan request
	running  chan struct{} // closed when the goroutine of Run is about to receive requests
	ended    chan struct{} // closed when Run has ended or will never begin
	stop     chan struct{} // closed by Close

	mu    sync.Mutex
	stage runStage
}

func newControl() *control {
	return &control{requests: make(chan request), running: make(chan struct{}), ended: make(chan struct{}), stop: make(chan struct{})}
}

// begin notes the call of Run. It returns an error if Run must not be called.
func (c *control) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage != runAwaited {
		return fmt.Errorf("%w: Run may be called once, and not after Close", ErrClosed)
	}
	c.stage = runBegun
	return nil
}

// close notes a call of Close, and returns the stage before the call.
func (c *control) close() (before runStage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.stage = c.stage, runClosed
	if before != runClosed {
		close(c.stop)
	}
	return before
}

// ask sends a request to the goroutine of Run. If ask returns nil, the request gets an answer.
func (c *control) ask(r request) error {
	select {
	case <-c.running:
	case <-c.ended:
		return ErrClosed
	default:
		return fmt.Errorf("%w: Run has not been called", ErrNotReady)
	}
	select {
	case c.requests <- r:
		return nil
	case <-c.ended:
		return ErrClosed
	}
}

// askWait sends a request, and returns the answer.
func (c *control) askWait(r request) error {
	r.reply = make(chan error, 1)
	if err := c.ask(r); err != nil {
		return err
	}
	return <-r.reply
}
