package drain

import (
	"net"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain/internal/nethttpcheck"
)

// An idle connection can move to another process: in a drain, or, with Options.Rebalance, while both processes serve. The
// process that gives the connection away calls Options.Move. In the process that gets the connection, the connection is an
// adoptedConn.

// readsAsKnown reports whether net/http reads from a connection as the methods silent and begun of a conn expect. If net/http
// reads in another way, no connection moves: idle connections are closed, as without Move. A test replaces the function.
var readsAsKnown = nethttpcheck.Check

// wasFoundKnown reports whether readsAsKnown has returned true. It does not wait, so it may be called while a lock is held. A
// test replaces the function.
var wasFoundKnown = nethttpcheck.Known

// An adoptedConn is a connection that came from another process. As long as no byte of a request was read, the other process
// can take the connection back if this process dies. The listeners of package upgrade return adopted connections only from
// AcceptMoved. Their Accept returns connections of package net, since some programs look at the type of a connection.
type adoptedConn interface {
	SetIdle()           // notes that the server waits for a request, and has read no byte of the request
	WasIdle() bool      // reports whether the connection was idle when the other process gave it away
	Kept() bool         // reports whether the other process still has a descriptor of the connection
	Own()               // makes the other process close its descriptor; see the method own of a conn
	Ahead(p []byte) int // reads bytes that the other process had read from the socket; returns 0 if no such byte is left
	NetConn() net.Conn  // returns the connection of package net inside
}

// acceptOf returns the method AcceptMoved of ln, which may return adopted connections. If ln has no such method, acceptOf
// returns the method Accept.
func acceptOf(ln net.Listener) func() (net.Conn, error) {
	if l, ok := ln.(interface{ AcceptMoved() (net.Conn, error) }); ok {
		return l.AcceptMoved
	}
	return ln.Accept
}

// An idleDeadline corrects the read deadlines of an adopted connection that was idle when it came. net/http takes the
// connection as new, and sets the deadline for the first request at once. But the client may be silent for as long as on any
// idle connection. So the first byte has the time of an idle connection. From the first byte on, the rest of the header has the
// time that net/http gives to a header.
type idleDeadline struct {
	waiting bool          // the first byte has not come
	since   time.Time     // when the connection came
	idle    time.Duration // how long to wait for the first byte; 0 means without a limit
	header  time.Duration // how much time net/http gives to the header; 0 means without a limit
	shift   time.Duration // the wait for the first byte; the later deadlines of the first request are extended by this wait
}

// idleTimeout returns how long a server waits for a next request; 0 means without a limit.
func idleTimeout(srv *http.Server) time.Duration {
	if srv.IdleTimeout != 0 {
		return max(srv.IdleTimeout, 0)
	}
	return max(srv.ReadTimeout, 0)
}

// deadline returns the read deadline to set in place of t, which net/http wants to set.
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

// arrived notes that the first byte has come, and returns the deadline for the rest of the header.
func (d *idleDeadline) arrived() time.Time {
	d.waiting = false
	d.shift = time.Since(d.since)
	if d.header == 0 {
		return time.Time{}
	}
	return time.Now().Add(d.header)
}
