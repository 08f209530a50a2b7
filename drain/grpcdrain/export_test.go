package grpcdrain

import (
	"context"
	"io"
	"net"
)

// Told copies from the reader from to nc, as to a connection of a server that stops. It reports whether the server has found
// the first GOAWAY in the bytes.
func Told(nc net.Conn, from io.Reader) bool {
	c := &conn{Conn: nc, conns: &conns{wake: make(chan struct{}, 1)}}
	c.conns.stopping.Store(true)
	c.given().(io.ReaderFrom).ReadFrom(from)
	return c.told.Load()
}

// AwaitsGoAway waits for the first GOAWAY on the connections to. It calls first before the wait, and later during the wait. Both
// functions may write to the connections.
func AwaitsGoAway(ctx context.Context, to []net.Conn, first, later func([]net.Conn)) {
	cs := &conns{wake: make(chan struct{}, 1), open: map[*conn]struct{}{}}
	var all []net.Conn
	for _, nc := range to {
		c := &conn{Conn: nc, conns: cs}
		cs.open[c] = struct{}{}
		all = append(all, c)
	}
	first(all)
	cs.stopping.Store(true)
	go later(all)
	cs.awaitTold(ctx, nil)
}
