package drain

import (
	"net"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain/internal/nethttpcheck"
	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// Connections that change process while the server serves: those that leave are offered to Move when Offers says so,
// those that have come know how to be taken back.

// readsAsKnown reports whether net/http reads as silent and begun need it. With another net/http no connection moves: idle
// connections are closed, as without Move. A test replaces the function.
var readsAsKnown = nethttpcheck.ReadsAsKnown

// A guest is a connection that came from another process, which can take it back while nothing was read of a request.
// Package upgrade has such connections. Accept of its listeners hides them, for programs that want those of package net.
type guest interface {
	SetIdle()           // the server waits for a request, and has read nothing of it
	WasIdle() bool      // it came between two requests
	Kept() bool         // the other process has a descriptor of it
	Own()               // the other process is to close its descriptor: something is done that would not be the same with two
	Ahead(p []byte) int // reads what came with the connection, before what the client has sent
	NetConn() net.Conn  // the connection of package net below
}

// acceptOf returns the method of a listener that returns guests, if it has one, or Accept.
func acceptOf(ln net.Listener) func() (net.Conn, error) {
	if l, ok := ln.(interface{ AcceptMoved() (net.Conn, error) }); ok {
		return l.AcceptMoved
	}
	return ln.Accept
}

// propose makes every idle connection ask Move once, and every other one when it is idle.
func (s *Server) propose() {
	if !readsAsKnown() { // asked here as well, before any lock is held
		return
	}
	for _, c := range s.ledger.list() {
		c.propose()
	}
}

func (c *conn) propose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blind || c.closed || !c.movable() {
		return
	}
	c.proposed = true
	if c.silent() && c.state != http.StateNew {
		c.leave()
	}
}

// declined asks Move once for each offer, while the server serves, and reports whether the connection stays.
func (c *conn) declined(size int) bool {
	for c.proposed && !c.begun(size) && !sockbuf.Queued(c.Conn) {
		c.proposed = false // another offer may come while Move is asked
		moved := c.offer()
		c.offered = false // for a drain
		if moved {
			return false
		}
	}
	return true
}

// park tells a guest that it may be taken back, if a Read into a buffer of the given size waits for its next request.
func (c *conn) park(size int) {
	c.mu.Lock()
	plain := !c.tls && !c.http2 && c.h2 == nil && c.proto == "" // of the others something is known here only
	parked := plain && c.state == http.StateIdle && c.waits <= 1 && !c.begun(size)
	c.mu.Unlock()
	if parked && c.guest.Kept() && readsAsKnown() {
		c.guest.SetIdle()
	}
}

// A visa is how long a connection that came idle waits for its first request here. To net/http it is a new connection,
// whose first request is late at once; it is given the time of an idle one, and then what net/http asked for.
type visa struct {
	waiting bool
	since   time.Time
	idle    time.Duration // 0: for ever
	header  time.Duration // what net/http has set for the header
	shift   time.Duration // how much later everything is until the first request has ended
}

func newVisa(srv *http.Server) visa {
	idle := srv.IdleTimeout
	if idle == 0 {
		idle = srv.ReadTimeout
	}
	return visa{waiting: true, since: time.Now(), idle: max(idle, 0)}
}

// deadline is the read deadline in place of the one that net/http wants.
func (v *visa) deadline(t time.Time) time.Time {
	switch {
	case v.waiting:
		if v.header = 0; !t.IsZero() {
			v.header = time.Until(t)
		}
		if v.idle == 0 {
			return time.Time{}
		}
		return v.since.Add(v.idle)
	case t.IsZero():
		return t
	}
	return t.Add(v.shift)
}

// arrived is the first byte. It returns the deadline of the rest of the header.
func (v *visa) arrived() time.Time {
	v.waiting = false
	v.shift = time.Since(v.since)
	if v.header == 0 {
		return time.Time{}
	}
	return time.Now().Add(v.header)
}
