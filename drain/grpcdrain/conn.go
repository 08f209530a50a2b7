package grpcdrain

import (
	"io"
	"net"

	"github.com/midair-go/midair/drain/internal/netconn"
)

// given returns the connection that grpc and its credentials get: c with all methods that a *net.TCPConn or *net.UnixConn has.
// Credentials look for such methods, for example to get the descriptor.
func (c *conn) given() net.Conn {
	switch below := c.Conn.(type) {
	case netconn.TCP:
		return &tcpConn{c, below, below}
	case netconn.Unix:
		return &unixConn{c, below, below}
	}
	return c
}

// A tcpConn is a conn with all methods of a *net.TCPConn.
type tcpConn struct {
	*conn
	netconn.TCPControl
	io.WriterTo
}

// A unixConn is a conn with all methods of a *net.UnixConn.
type unixConn struct {
	*conn
	netconn.UnixControl
	netconn.Messages
}

var (
	_ netconn.TCP  = (*tcpConn)(nil)
	_ netconn.Unix = (*unixConn)(nil)
)

// ReadFrom copies from r through a buffer, so that Write sees the bytes.
func (c *tcpConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c.conn}, r)
}
