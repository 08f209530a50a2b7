package drain

import (
	"context"
	"errors"
	"time"
)

// ErrExpired is the context.Cause of the contexts of requests, raw connections and jobs that are unfinished when
// [Options.Grace] has run out.
var ErrExpired = errors.New("drain: the time to end is over")

// A Notice tells handlers and jobs that the drain has begun, and how much time they have. A Notice cancels nothing. The
// handler of a request or of a raw connection, and a job, get the Notice by [FromContext].
type Notice struct {
	begun chan struct{}
	// until and handover are written before begun is closed.
	until    time.Time
	handover bool
}

// never is the Notice that FromContext returns for a context that came from no server.
var never = &Notice{begun: make(chan struct{})}

// connKey is the key of a context value of type noticed. The value is the *conn of a request or of a raw connection, or a
// *Server.
type connKey struct{}

// A noticed is a context value from which FromContext gets the Notice of a server.
type noticed interface{ notice() *Notice }

// FromContext returns the Notice of the server from which ctx came. If ctx came from no server, the result is a Notice whose
// drain never begins. FromContext never returns nil.
func FromContext(ctx context.Context) *Notice {
	if v, ok := ctx.Value(connKey{}).(noticed); ok {
		return v.notice()
	}
	return never
}

// Begun returns a channel that is closed when the server ends its accept loops. In a plain stop this is after Propagation.
// During Propagation, a load balancer could send a reconnecting client to this server again.
func (n *Notice) Begun() <-chan struct{} { return n.begun }

// Deadline returns the time at which Grace runs out. ok is false before the channel of Begun is closed.
func (n *Notice) Deadline() (deadline time.Time, ok bool) {
	select {
	case <-n.begun:
		return n.until, true
	default:
		return time.Time{}, false
	}
}

// Handover reports whether another process goes on serving, so that a client may come back at once. Handover returns false
// before the channel of Begun is closed.
func (n *Notice) Handover() bool {
	_, ok := n.Deadline()
	return ok && n.handover
}
