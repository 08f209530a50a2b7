package listener

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// setReusePort sets SO_REUSEPORT on or off, and reports whether the option has changed.
func setReusePort(fd int, on bool) bool {
	v := map[bool]int{true: 1}[on]
	had, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	return err == nil && had != v && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, v) == nil
}

func hasReusePort(fd int) bool {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	return err == nil && v != 0
}

func isV6Only(fd int) bool {
	v, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	return err == nil && v != 0
}

// detach makes a listener with an address of its own get no new client: no device has this number. The system call needs no
// right unless the listener is bound to a device already; then new clients go on coming until the listener is closed.
func detach(l *net.TCPListener) {
	control(l, func(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, math.MaxInt32) })
}

// beginListening makes a socket listen that is only bound.
func beginListening(fd int) error {
	return os.NewSyscallError("listen", unix.Listen(fd, math.MaxInt32))
}

// listenAgain calls listen(2) once more: the queue of the socket gets the length that the kernel allows by now, and a unix
// socket shows its clients the pid of this process. A unix socket shows its clients the user of a process too, which must stay
// the same.
func listenAgain(fd int, network string) {
	if strings.HasPrefix(network, "unix") {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || int(cred.Uid) != os.Geteuid() || int(cred.Gid) != os.Getegid() {
			return
		}
	}
	_ = unix.Listen(fd, math.MaxInt32) // one that fails leaves the queue as it is
}

// bindTCP makes a listener that is bound and does not listen yet. With both, a wildcard of IPv6 has the clients of IPv4 too.
func bindTCP(c net.ListenConfig, at netip.AddrPort, both bool) (any, error) {
	if both {
		sock, err := bindFamily(c, unix.AF_INET6, at, both)
		if !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return sock, err
		}
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()) // a machine without IPv6
	}
	if at.Addr().Is4() {
		return bindFamily(c, unix.AF_INET, at, false)
	}
	return bindFamily(c, unix.AF_INET6, at, false)
}

func bindFamily(c net.ListenConfig, family int, at netip.AddrPort, both bool) (any, error) {
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
	network, sa := "tcp4", unix.Sockaddr(nil) // what package net tells Control
	if family == unix.AF_INET {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	} else {
		network, sa = "tcp6", &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, map[bool]int{false: 1}[both])
	}
	if err := errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)); err != nil {
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
