package drain

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrClosed is returned by Serve, ServeTLS and ListenAndServe of a [Server] whose drain has begun. A Server serves once.
var ErrClosed = errors.New("drain: server closed")

// errStopped ends the accept loop of net/http. It has no Temporary method: the loop must not retry.
var errStopped = errors.New("drain: stopped accepting")

// A TimeoutError says that [Options.Grace] ran out, and what was left then.
// errors.Is(err, context.DeadlineExceeded) is true.
type TimeoutError struct {
	// Grace is the limit that was reached.
	Grace time.Duration
	// Left lists the connections that were closed although something went on there: a request that was being read or
	// answered, a hijack that had not ended, a Move that had not returned. Idle and silent ones are not listed.
	Left []Leftover
}

// A Leftover is a connection that was still there when the drain had to end.
type Leftover struct {
	// Remote is the address of the client.
	Remote string `json:"remote"`
	// State is new, active, idle or hijacked.
	State string `json:"state"`
	// Since is when the connection entered that state.
	Since time.Time `json:"since"`
	// Request is the method and path of the current or last request; empty if there was none.
	Request string `json:"request,omitempty"`
}

// String gives the leftover in a line.
func (l Leftover) String() string {
	text := l.Remote + " " + l.State
	if l.Request != "" {
		text += " " + l.Request
	}
	return text
}

// listed is how many leftovers are named one by one in a message or in the log.
const listed = 20

// Error names the first of the leftovers.
func (e *TimeoutError) Error() string {
	text := fmt.Sprintf("drain: %d connections left after %v", len(e.Left), e.Grace)
	separator := ": "
	for _, l := range e.Left[:min(len(e.Left), listed)] {
		text += separator + l.String()
		separator = ", "
	}
	if len(e.Left) > listed {
		text += ", …"
	}
	return text
}

// Unwrap makes the error a [context.DeadlineExceeded].
func (e *TimeoutError) Unwrap() error { return context.DeadlineExceeded }
