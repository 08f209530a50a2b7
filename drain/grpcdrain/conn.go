package grpcdrain

import (
	"io"
	"net"

	"github.com/midair-go/midair/drain/internal/netconn"
)

// Credentials of gRPC, and what they wrap, look for the descriptor of a connection and for methods of net's types.

// given is what grpc and its credentials get: a conn with the methods of net's types, where the connection below has them.
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

// ReadFrom copies by a buffer: what is written is looked at.
func (c *tcpConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c.conn}, r)
}
