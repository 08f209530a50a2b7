package upgrade

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// What an attempt has received from its candidate, and the errors that the candidate causes.

// received has the inputs from the candidate.
type received struct {
	frames <-chan wire.Frame  // nil before the start, and after the attempt has read the end of the socket
	ready  <-chan struct{}    // closed when the Ready byte comes; nil before the start, and after a call of admit
	kinds  map[wire.Kind]bool // the kinds of the messages that have come
	call   *work              // runs a subscriber's function, or restores kept values; nil: none runs, and messages are read
}

// inOrder handles the arrival of a message of kind k. The argument now is the phase of the attempt. If the candidate must not
// send such a message in this phase, inOrder returns a *wordError. Otherwise it notes that a message of kind k has come, and
// returns nil. Unknown kinds are ignored. The function sent reports whether this process has sent a message of a given kind.
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

// exitError means that the child has ended.
type exitError struct {
	status string
	early  bool // the child has ended before it sent hello
}

func (e *exitError) Error() string {
	if e.early {
		return "it ended before upgrade.New: " + e.status
	}
	return "it ended: " + e.status
}

// remoteError means that the candidate has reported its failure. The error has the reason that the candidate has sent.
type remoteError struct{ wire.FailedBody }

func (e *remoteError) Error() string { return e.Reason }

func (e *remoteError) Unwrap() error {
	if e.Aborted {
		return ErrAborted
	}
	return nil
}

// silentError means that the candidate has sent nothing for longer than a limit.
type silentError struct{ limit time.Duration }

func (e *silentError) Error() string {
	return fmt.Sprintf("it said nothing for %v: it hangs, or the machine is too busy for Options.Silence", e.limit)
}

// heartbeat notes when the last message came from a candidate that has to send heartbeats. The zero value expects no
// heartbeats.
type heartbeat struct {
	last  atomic.Int64 // when the last message came, by sys.Uptime; 0: no heartbeats are expected
	found int          // how many calls of check in a row have found the candidate silent
}

// begin begins to expect heartbeats.
func (h *heartbeat) begin() { h.last.Store(int64(sys.Uptime())) }

// refresh begins the limit of check anew, as if a message had come now. If no heartbeats are expected, refresh does nothing.
func (h *heartbeat) refresh() {
	if h.last.Load() != 0 {
		h.begin()
	}
}

// check returns a *silentError if the candidate was silent for the limit. But the first two calls in a row that find the
// candidate silent return nil: perhaps this process was suspended, and has to read the waiting messages first.
func (h *heartbeat) check(limit time.Duration) error {
	last := h.last.Load()
	if last == 0 || sys.Uptime()-time.Duration(last) < limit {
		h.found = 0
		return nil
	}
	if h.found++; h.found < 3 {
		return nil
	}
	return &silentError{limit}
}
