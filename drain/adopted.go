package drain

import (
	"net"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain/internal/nethttpcheck"
)

// Connections change process while both processes serve. A connection that leaves is offered to Move when Options.Rebalance
// says so; an adoptedConn has come, and the other process can take the connection back.

// readsAsKnown reports whether net/http reads as silent and begun need. With another net/http no connection moves: idle
// connections are closed, as without Move. A test replaces the function.
var readsAsKnown = nethttpcheck.Check

// An adoptedConn is a connection that came from another process. The other process can take the connection back while
// nothing of a request was read. Package upgrade has such connections. Accept of the listeners of upgrade returns the
// connections of package net below, for programs that look at the type.
type adoptedConn interface {
	SetIdle()           // the server waits for a request, and has read nothing of the request
	WasIdle() bool      // the connection came between two requests
	Kept() bool         // the other process has a descriptor of the connection
	Own()               // the other process is to close its descriptor: something follows that two descriptors would change
	Ahead(p []byte) int // reads what came with the connection, before what the client has sent
	NetConn() net.Conn  // the connection of package net below
}

// acceptOf returns the method of a listener that returns adopted connections, if there is one, or Accept.
func acceptOf(ln net.Listener) func() (net.Conn, error) {
	if l, ok := ln.(interface{ AcceptMoved() (net.Conn, error) }); ok {
		return l.AcceptMoved
	}
	return ln.Accept
}

// An idleDeadline is how long an adopted connection that came idle waits for its first request here. To net/http the
// connection is new, so the first request would be late at once. The first byte has the time of an idle connection, and
// the rest of the header the time that net/http asked for.
type idleDeadline struct {
	waiting bool
	since   time.Time
	idle    time.Duration // 0: for ever
	header  time.Duration // the time of net/http for the header
	shift   time.Duration // how much later every deadline is until the first request has ended
}

// idleTimeout is how long a server waits for a next request; 0: for ever.
func idleTimeout(srv *http.Server) time.Duration {
	if srv.IdleTimeout != 0 {
		return max(srv.IdleTimeout, 0)
	}
	return max(srv.ReadTimeout, 0)
}

// deadline is the read deadline in place of the one that net/http wants.
func (d *idleDeadline) deadline(t time.Time) time.Time {
	switch {
	case d.waiting:
		if d.header = 0; !t.IsZero() {
			d.header = time.Until(t)
		}
		if d.idle == 0 {
			return time.Time{}
		}
		return d.since.Add(d.idle)
	case d.shift == 0, t.IsZero():
		return t
	}
	return t.Add(d.shift)
}

// arrived notes the first byte, and returns the deadline of the rest of the header.
func (d *idleDeadline) arrived() time.Time {
	d.waiting = false
	d.shift = time.Since(d.since)
	if d.header == 0 {
		return time.Time{}
	}
	return time.Now().Add(d.header)
}
