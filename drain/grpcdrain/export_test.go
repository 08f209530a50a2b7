package grpcdrain

import (
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
