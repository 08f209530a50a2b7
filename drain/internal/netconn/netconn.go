// Package netconn names the methods that *net.TCPConn and *net.UnixConn have beyond [net.Conn], so that a wrapper of such a
// connection can have all of them: programs look for single methods (CloseRead, SetLinger, SyscallConn) in what they are given.
//
// The methods are divided by what a wrapper does with them. The Control interfaces move no bytes: a wrapper embeds the
// connection below as such an interface. The methods that move bytes belong to the wrapper.
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

// Halves ends one direction of a connection.
type Halves interface {
	CloseRead() error
	CloseWrite() error
}

// Descriptor gives access to the descriptor of a socket.
type Descriptor interface {
	syscall.Conn
	File() (*os.File, error)
}

// TCPControl is what a *net.TCPConn has beyond net.Conn, without the methods that move bytes.
type TCPControl interface {
	TCPOptions
	Halves
	Descriptor
}

// UnixControl is what a *net.UnixConn has beyond net.Conn, without the methods that move bytes.
type UnixControl interface {
	UnixOptions
	Halves
	Descriptor
}

// TCP is all that a *net.TCPConn has.
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

// Unix is all that a *net.UnixConn has.
type Unix interface {
	net.Conn
	UnixControl
	Messages
}

var (
	_ TCP  = (*net.TCPConn)(nil)
	_ Unix = (*net.UnixConn)(nil)
)
