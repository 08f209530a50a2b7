package grpcdrain

import (
	"io"
	"net"

	"github.com/midair-go/midair/drain/internal/netconn"
)

// The credentials of gRPC look for the descriptor of a connection and for methods of the types of package net.

// given returns the connection for grpc and its credentials: a conn with all methods of the type of package net below.
func (c *conn) given() net.Conn {
	switch below := c.Conn.(type) {
	case netconn.TCP:
		return &tcpConn{c, below, below}
	case netconn.Unix:
		return &unixConn{c, below, below}
	}
	return c
}

// A tcpConn is a conn with all that a *net.TCPConn has.
type tcpConn struct {
	*conn
	netconn.TCPControl
	io.WriterTo
}

// A unixConn is a conn with all that a *net.UnixConn has.
type unixConn struct {
	*conn
	netconn.UnixControl
	netconn.Messages
}

var (
	_ netconn.TCP  = (*tcpConn)(nil)
	_ netconn.Unix = (*unixConn)(nil)
)

// ReadFrom copies by a buffer, so that Write sees the bytes.
func (c *tcpConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c.conn}, r)
}
