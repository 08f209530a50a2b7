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

// setReusePort sets or removes the option SO_REUSEPORT, and reports whether the option has changed.
func setReusePort(fd int, set bool) bool {
	v := map[bool]int{true: 1}[set]
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

// detach ensures that a listener gets no new clients: it binds the listener to a device number that no device has. detach must
// not be called for a listener that shares its address with another socket. If the listener is bound to a device already,
// detach needs a privilege. Without the privilege the listener gets new clients until it is closed.
func detach(l *net.TCPListener) {
	control(l, func(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, math.MaxInt32) })
}

// beginListening makes a bound socket listen.
func beginListening(fd int) error {
	return os.NewSyscallError("listen", unix.Listen(fd, math.MaxInt32))
}

// listenAgain calls listen(2) for a socket that listens already. So the queue gets the length that the kernel allows now. The
// clients of a unix socket see the pid, the uid and the gid of the last process that called listen(2). The pid may change, but
// the uid and the gid must not. So listenAgain does nothing for a unix socket if this process has another uid or gid.
func listenAgain(fd int, network string) {
	if strings.HasPrefix(network, "unix") {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || int(cred.Uid) != os.Geteuid() || int(cred.Gid) != os.Getegid() {
			return
		}
	}
	_ = unix.Listen(fd, math.MaxInt32) // if this call fails, the queue keeps its length
}

// bindTCP makes a TCP listener that is bound to addr and does not listen yet. If both is true, addr is the wildcard address of
// IPv6, and the listener also gets the clients of IPv4.
func bindTCP(c net.ListenConfig, addr netip.AddrPort, both bool) (any, error) {
	if both {
		sock, err := bindFamily(c, unix.AF_INET6, addr, both)
		if !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return sock, err
		}
		addr = netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()) // the machine has no IPv6
	}
	if addr.Addr().Is4() {
		return bindFamily(c, unix.AF_INET, addr, false)
	}
	return bindFamily(c, unix.AF_INET6, addr, false)
}

func bindFamily(c net.ListenConfig, family int, addr netip.AddrPort, both bool) (any, error) {
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
	f := os.NewFile(uintptr(fd), addr.String())
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	network, sa := "tcp4", unix.Sockaddr(nil) // package net passes the same network to Control
	if family == unix.AF_INET {
		sa = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	} else {
		network, sa = "tcp6", &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, map[bool]int{false: 1}[both])
	}
	if err := errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := c.Control(network, addr.String(), raw); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	return orNil(net.FileListener(f))
}
