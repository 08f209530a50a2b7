package upgrade

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// What an attempt knows of its candidate from the control socket, and the errors that the candidate causes.

// received is the input from the candidate.
type received struct {
	frames <-chan wire.Frame  // nil when the end of the control socket is known
	ready  <-chan struct{}    // closed with the Ready byte; nil when the byte is known
	kinds  map[wire.Kind]bool // of the messages
	call   *work              // of a subscriber: the next messages wait for its end; nil: none runs
}

// inOrder notes a message of the candidate, or returns a *wordError if it must not come now.
func (r *received) inOrder(k wire.Kind, now Phase, p peer, sent func(wire.Kind) bool) error {
	if !k.Known() {
		return nil
	}
	if !p.allows(k, now, r.kinds[k], sent) {
		return &wordError{fmt.Sprintf("message %v", k), now}
	}
	if r.kinds == nil {
		r.kinds = map[wire.Kind]bool{}
	}
	r.kinds[k] = true
	return nil
}

// exitError is the end of the child.
type exitError struct {
	status string
	early  bool // before it sent hello
}

func (e *exitError) Error() string {
	if e.early {
		return "it ended before upgrade.New: " + e.status
	}
	return "it ended: " + e.status
}

// remoteError is the reason that the candidate has sent for its own failure.
type remoteError struct{ wire.FailedBody }

func (e *remoteError) Error() string { return e.Reason }

func (e *remoteError) Unwrap() error {
	if e.Aborted {
		return ErrAborted
	}
	return nil
}

// silentError means that the candidate gave no sign of life.
type silentError struct{ limit time.Duration }

func (e *silentError) Error() string {
	return fmt.Sprintf("it said nothing for %v: it hangs, or the machine is too busy for Options.Silence", e.limit)
}

// heartbeat is when the last message came from a candidate that has to send heartbeats. The zero value has to send none.
type heartbeat struct {
	last  atomic.Int64 // by sys.Uptime; 0: it need not send any
	found int          // how often the candidate was found silent
}

// begin begins to expect heartbeats.
func (h *heartbeat) begin() { h.last.Store(int64(sys.Uptime())) }

// refresh notes a message of a candidate that has to send heartbeats.
func (h *heartbeat) refresh() {
	if h.last.Load() != 0 {
		h.begin()
	}
}

// check returns a *silentError if nothing has come for a time.
func (h *heartbeat) check(limit time.Duration) error {
	last := h.last.Load()
	if last == 0 || sys.Uptime()-time.Duration(last) < limit {
		h.found = 0
		return nil
	}
	if h.found++; h.found < 3 { // this process may have been frozen: what has come is read first
		return nil
	}
	return &silentError{limit}
}
