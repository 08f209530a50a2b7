package listener

import (
	"net"
	"strings"
	"syscall"
	"time"
)

// bareListener is what *net.TCPListener and *net.UnixListener have in common.
type bareListener interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

// barePacketConn is what the packet connections of package net have in common.
type barePacketConn interface {
	net.PacketConn
	syscall.Conn
}

// orNil keeps a nil listener from becoming an interface that is not nil.
func orNil[T comparable](sock T, err error) (any, error) {
	var none T
	if err != nil || sock == none {
		return nil, err
	}
	return sock, nil
}

// control calls do with the descriptor of a socket, unless the socket is closed.
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
