package drain

import (
	"context"
	"errors"
	"time"
)

// ErrExpired is the cause of the contexts of requests, raw connections and jobs that go on when [Options.Grace] has run
// out: context.Cause(ctx).
var ErrExpired = errors.New("drain: the time to end is over")

// A Notice tells handlers and jobs that the drain has begun, and how long they have. A Notice cancels nothing.
// [FromContext] gives the Notice to the handler of a request or of a raw connection, and to a job.
type Notice struct {
	begun chan struct{}
	// Written before begun is closed.
	until    time.Time
	handover bool
}

// never is the notice of a context that has none.
var never = &Notice{begun: make(chan struct{})}

// connKey is the key of the noticed in a context: the *conn of a request, or a *Server.
type connKey struct{}

// A noticed leads to the Notice of a server.
type noticed interface{ notice() *Notice }

// FromContext returns the notice of the server that gave ctx. FromContext never returns nil: without a server nothing
// ever begins.
func FromContext(ctx context.Context) *Notice {
	if v, ok := ctx.Value(connKey{}).(noticed); ok {
		return v.notice()
	}
	return never
}

// Begun returns a channel that is closed when the server has stopped accepting. On a plain stop the channel is closed
// after Propagation: clients that come back earlier would come back to this server.
func (n *Notice) Begun() <-chan struct{} { return n.begun }

// Deadline says when Grace will have run out; false before the drain has begun.
func (n *Notice) Deadline() (deadline time.Time, ok bool) {
	select {
	case <-n.begun:
		return n.until, true
	default:
		return time.Time{}, false
	}
}

// Handover reports whether another process serves on, so that a client may come back at once; false before the drain has
// begun.
func (n *Notice) Handover() bool {
	_, ok := n.Deadline()
	return ok && n.handover
}
