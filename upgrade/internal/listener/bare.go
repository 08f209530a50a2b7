package listener

import (
	"net"
	"strings"
	"syscall"
	"time"
)

// bareListener has the common methods of *net.TCPListener and *net.UnixListener.
type bareListener interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

// barePacketConn has the common methods of the packet connections of package net.
type barePacketConn interface {
	net.PacketConn
	syscall.Conn
}

// orNil returns sock as an interface. If sock is a nil pointer, orNil returns a nil interface, because an interface that has a
// nil pointer is not equal to nil.
func orNil[T comparable](sock T, err error) (any, error) {
	var none T
	if err != nil || sock == none {
		return nil, err
	}
	return sock, nil
}

// control calls the function do with the descriptor of c, unless c is closed.
func control(c syscall.Conn, do func(fd int)) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}

func unixPath(a net.Addr) string {
	if ua, ok := a.(*net.UnixAddr); ok && !strings.HasPrefix(ua.Name, "@") {
		return ua.Name
	}
	return ""
}

func setUnlink(v any, on bool) {
	if u, ok := v.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(on)
	}
}
