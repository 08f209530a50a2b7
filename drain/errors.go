package drain

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrClosed means that a [Server] no longer does what was asked. When a context has ended or an accept has failed, the final
// drain begins. From then on, new calls of Serve and of the other serving methods, of Drain and of Resume return ErrClosed. A
// lame duck that was made by [Server.Drain] is not in the final drain. Go and Track still work in the final drain. They return
// ErrClosed when everything has ended, or when Grace has run out.
//
// ErrClosed is also the cause of the context of an event stream that a drain has ended, and the error of later writes to the
// stream.
var ErrClosed = errors.New("drain: server closed")

// errStopped ends the accept loop of net/http. It has no Temporary method, so that the loop does not retry.
var errStopped = errors.New("drain: stopped accepting")

// A TimeoutError says that [Options.Grace] ran out, and lists the connections and jobs that were left.
// errors.Is(err, context.DeadlineExceeded) is true.
type TimeoutError struct {
	// Grace is the limit that was reached.
	Grace time.Duration
	// Left lists what was in use when Grace ran out: requests that were being read or answered, hijacked and raw
	// connections, connections whose Move had not returned, and jobs. Idle and silent connections are not listed.
	Left []Entry
}

// listed is how many entries an error message or the log names at most.
const listed = 20

// Error says how many entries were left, and names the first of them.
func (e *TimeoutError) Error() string {
	text := fmt.Sprintf("drain: %d left after %v", len(e.Left), e.Grace)
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

// Unwrap returns [context.DeadlineExceeded], so that errors.Is finds it.
func (e *TimeoutError) Unwrap() error { return context.DeadlineExceeded }
