// Package netconn has interfaces for the methods that *net.TCPConn and *net.UnixConn have beyond [net.Conn]. A program may look
// for such methods, for example CloseRead or SyscallConn, in a connection that it gets. With the interfaces, a wrapper of a
// connection can have all methods of the connection.
//
// The methods of the Control interfaces move no bytes, so a wrapper can embed its inner connection as a Control interface. The
// methods that move bytes have to be written for each wrapper.
package netconn

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// TCPOptions are the methods of a *net.TCPConn that set or get an option of the socket.
type TCPOptions interface {
	SetLinger(sec int) error
	SetKeepAlive(keepalive bool) error
	SetKeepAlivePeriod(d time.Duration) error
	SetKeepAliveConfig(config net.KeepAliveConfig) error
	SetNoDelay(noDelay bool) error
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	MultipathTCP() (bool, error)
}

// UnixOptions are the methods of a *net.UnixConn that set an option of the socket.
type UnixOptions interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

// Halves are the methods that close a single direction of a connection.
type Halves interface {
	CloseRead() error
	CloseWrite() error
}

// Descriptor gives access to the descriptor of a socket.
type Descriptor interface {
	syscall.Conn
	File() (*os.File, error)
}

// TCPControl has the methods of a *net.TCPConn beyond net.Conn that move no bytes.
type TCPControl interface {
	TCPOptions
	Halves
	Descriptor
}

// UnixControl has the methods of a *net.UnixConn beyond net.Conn that move no bytes.
type UnixControl interface {
	UnixOptions
	Halves
	Descriptor
}

// TCP has all methods of a *net.TCPConn.
type TCP interface {
	net.Conn
	TCPControl
	io.ReaderFrom
	io.WriterTo
}

// Messages are the methods of a *net.UnixConn for messages with an address or with ancillary data: credentials, descriptors.
type Messages interface {
	ReadFrom(b []byte) (int, net.Addr, error)
	ReadFromUnix(b []byte) (int, *net.UnixAddr, error)
	ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
	WriteTo(b []byte, addr net.Addr) (int, error)
	WriteToUnix(b []byte, addr *net.UnixAddr) (int, error)
	WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error)
}

// Unix has all methods of a *net.UnixConn.
type Unix interface {
	net.Conn
	UnixControl
	Messages
}

var (
	_ TCP  = (*net.TCPConn)(nil)
	_ Unix = (*net.UnixConn)(nil)
)
