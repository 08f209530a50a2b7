package listener

import (
	"math"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// setReusePort reports whether it has changed SO_REUSEPORT.
func setReusePort(fd int, on bool) bool {
	v := map[bool]int{true: 1}[on]
	had, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	return err == nil && had != v && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, v) == nil
}

// detach makes a listener get no new connection: no device has this number. It needs no right unless the listener is bound to a
// device already; then new ones go on coming until it is closed.
func detach(l *net.TCPListener) {
	if raw, err := l.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, math.MaxInt32)
		})
	}
}

// listenAgain calls listen(2) once more: the queue of the socket gets the length that the kernel allows by now, and a unix socket the
// pid of this process for its clients. They see its user as well: that stays as it is.
func listenAgain(fd int, network string) {
	if strings.HasPrefix(network, "unix") {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || int(cred.Uid) != os.Geteuid() || int(cred.Gid) != os.Getegid() {
			return
		}
	}
	_ = unix.Listen(fd, math.MaxInt32) // one that fails leaves the queue as it is
}

// bindTCP makes a listener that is bound and does not listen yet, otherwise as package net makes one.
func bindTCP(c net.ListenConfig, network string, at netip.AddrPort) (any, error) {
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	family := unix.AF_INET6
	if at.Addr().Is4() {
		sa, family = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}, unix.AF_INET
	}
	const kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := -1, error(unix.EPROTONOSUPPORT)
	if c.MultipathTCP() {
		fd, err = unix.Socket(family, kind, unix.IPPROTO_MPTCP)
	}
	if err != nil {
		fd, err = unix.Socket(family, kind, 0)
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), at.String())
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := c.Control(network, at.String(), raw); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	return orNil(net.FileListener(f))
}
