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

// A TimeoutError says that [Options.Grace] ran out, and lists the connections and jobs that were left.
// errors.Is(err, context.DeadlineExceeded) is true.
type TimeoutError struct {
	// Grace is the limit that was reached.
	Grace time.Duration
	// Left lists what went on then: a request that was being read or answered, a hijack that had not ended, a Move that
	// had not returned, a job. Idle and silent connections are not listed.
	Left []Entry
}

// listed is how many entries are named one by one in a message or in the log.
const listed = 20

// Error names the first of what was left.
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

// Unwrap makes the error a [context.DeadlineExceeded].
func (e *TimeoutError) Unwrap() error { return context.DeadlineExceeded }
