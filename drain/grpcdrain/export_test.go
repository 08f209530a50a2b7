package grpcdrain

import (
	"io"
	"net"
)

// Told copies to nc as to a connection of a server that stops, and reports whether what was copied is taken for the GOAWAY.
func Told(nc net.Conn, from io.Reader) bool {
	c := &conn{Conn: nc, conns: &conns{wake: make(chan struct{}, 1)}}
	c.conns.stopping.Store(true)
	c.given().(io.ReaderFrom).ReadFrom(from)
	return c.told.Load()
}
