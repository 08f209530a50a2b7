package drain

import (
	"context"
	"errors"
	"time"
)

// ErrExpired is the cause of the contexts of requests, raw connections and jobs that go on when [Options.Grace] has run
// out: context.Cause(ctx).
var ErrExpired = errors.New("drain: the time to end is over")

// A Notice tells those who are at work that the drain has begun, and how long they have. Nothing of theirs is cancelled
// by it. [FromContext] gives it to the handler of a request or of a raw connection, and to a job.
type Notice struct {
	begun chan struct{}
	// Written before begun is closed.
	until    time.Time
	handover bool
}

// never is the notice of a context that has none.
var never = &Notice{begun: make(chan struct{})}

// FromContext returns the notice of the server that gave ctx. It is never nil: without a server nothing ever begins.
func FromContext(ctx context.Context) *Notice {
	switch v := ctx.Value(connKey{}).(type) {
	case *conn:
		return &v.srv.notice
	case *Server:
		return &v.notice
	}
	return never
}

// Begun returns a channel that is closed when the server has stopped accepting and waits for what is there. On a stop
// with a time as a lame duck that is after Propagation: clients that come back earlier would come back here.
func (n *Notice) Begun() <-chan struct{} { return n.begun }

// Deadline says when Grace will have run out; false before it has begun.
func (n *Notice) Deadline() (deadline time.Time, ok bool) {
	select {
	case <-n.begun:
		return n.until, true
	default:
		return time.Time{}, false
	}
}

// Handover reports whether another process serves on, so that a client may come back at once; false before it has begun.
func (n *Notice) Handover() bool {
	_, ok := n.Deadline()
	return ok && n.handover
}

// Context returns a context in which [FromContext] finds the notice of this server, for protocols that it does not know.
func (s *Server) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, connKey{}, s)
}
