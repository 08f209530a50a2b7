package listener

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// An address that the new version spells in another way.
//
// The same socket is taken over, under its new name: "localhost:80" and "127.0.0.1:80", or another path to the same directory.
// A wildcard in place of an address ("0.0.0.0:80" for "127.0.0.1:80"), and the way back, is another socket of TCP. Both can be bound at a
// time with SO_REUSEPORT, which is set for that moment. The kernel prefers the exact one to the wildcard, so nobody is taken from the old
// process before the commit: a new wildcard gets the other clients only, and a new exact one begins to listen with the commit. Then the
// kernel is told that the old socket is for no device, so that clients get to the new one, and what is in the old queue comes out of the
// new Accept.

// emptyFor is how long the queue of a socket that ends is emptied: for clients that have begun to connect, a round trip is enough.
const emptyFor = time.Second

// spot is where a socket is.
type spot struct {
	network string // tcp, udp, or that of a unix socket
	at      netip.AddrPort
	path    string
}

// spotOf resolves what Listen was asked for.
func spotOf(name wire.SocketName) (p spot, ok bool) {
	addr, _, _ := strings.Cut(name.Addr, "#")
	switch {
	case hasPath(name):
		return spot{network: name.Network, path: filepath.Clean(startPath(name.Addr))}, true
	case strings.HasPrefix(name.Network, "tcp"):
		a, err := net.ResolveTCPAddr(name.Network, addr)
		if err != nil || a.Zone != "" {
			return p, false
		}
		p.at = a.AddrPort()
	case strings.HasPrefix(name.Network, "udp"):
		a, err := net.ResolveUDPAddr(name.Network, addr)
		if err != nil || a.Zone != "" {
			return p, false
		}
		p.at = a.AddrPort()
	default:
		return p, false
	}
	if !p.at.Addr().IsValid() {
		p.at = netip.AddrPortFrom(netip.IPv6Unspecified(), p.at.Port())
	}
	p.at = netip.AddrPortFrom(p.at.Addr().Unmap(), p.at.Port())
	p.network = name.Network[:3]
	return p, p.at.Port() != 0
}

// spotted is where a socket that has come is bound.
func spotted(name wire.SocketName, file *os.File) (p spot, ok bool) {
	if hasPath(name) {
		return spotOf(name)
	}
	is, ok := describe(int(sys.FD(file)))
	if !ok || is.Kind != name.Kind {
		return p, false
	}
	at, err := netip.ParseAddrPort(is.Addr)
	return spot{network: is.Network, at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port())}, err == nil
}

// isSame reports whether a socket that has come is what Listen would open. All wildcards of a network are the same to package net.
func (p spot) isSame(network string, came spot, cameNetwork string) bool {
	if p.path != "" || p.network != came.network || !p.at.Addr().IsUnspecified() {
		return p == came
	}
	return network == cameNetwork && p.at.Port() == came.at.Port() && came.at.Addr().IsUnspecified()
}

// covers reports whether a wildcard gets the clients of another address, once nobody listens there.
func (p spot) covers(network string, came spot) bool {
	if p.path != "" || p.network != came.network || p.at.Port() != came.at.Port() || !p.at.Addr().IsUnspecified() {
		return false
	}
	switch network[3:] {
	case "4":
		return came.at.Addr().Is4()
	case "6":
		return came.at.Addr().Is6()
	}
	return true // package net listens on both families
}

// order is what name has added to an address.
func order(addr string) string {
	_, order, _ := strings.Cut(addr, "#")
	return order
}

// find returns what has come under a name, or the same socket under another one. Without either it has the name only.
func (r *Received) find(name wire.SocketName) received {
	if came, left := r.named(name); came.file != nil || left == 0 {
		return came
	}
	want, ok := spotOf(name) // it may ask a name server
	if !ok {
		return received{name: name}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		at, ok := spotted(f.name, f.file)
		if ok && f.name.Kind == name.Kind && order(f.name.Addr) == order(name.Addr) && want.isSame(name.Network, at, f.name.Network) {
			return f
		}
	}
	return received{name: name}
}

// named returns what has come under exactly this name, and how many there are.
func (r *Received) named(name wire.SocketName) (f received, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		if f.name == name {
			return f, len(r.files)
		}
	}
	return received{name: name}, len(r.files)
}

func (s *Set) find(name wire.SocketName) received {
	if r, ok := s.fds.(*Received); ok {
		return r.find(name)
	}
	return received{name: name}
}

// left calls each with the sockets that have come, from an older generation or as kept ones, and were not opened.
func (s *Set) left(each func(name wire.SocketName, f *os.File)) {
	s.passed.EachKept(func(f *os.File) {
		if name, ok := describe(int(sys.FD(f))); ok {
			each(name, f)
		}
	})
	if r, ok := s.fds.(*Received); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, f := range r.files {
			each(f.name, f.file)
		}
	}
}

// beside opens an address although sockets that have come are in the way: a wildcard beside an address, whose clients it gets after that
// one, or the other way round. It returns the names of the sockets whose clients it gets all. Otherwise the error stays.
func (s *Set) beside(ref *Socket, create func(net.ListenConfig) (any, error), busy error) (sock any, covered []wire.SocketName, err error) {
	want, ok := spotOf(ref.socketName())
	if !ok || want.network != "tcp" {
		return nil, nil, busy
	}
	var undo []func()
	narrows := false
	s.left(func(name wire.SocketName, f *os.File) {
		at, ok := spotted(name, f)
		switch {
		case !ok || name.Kind != ref.kind:
			return
		case want.covers(ref.Network, at):
			covered = append(covered, name)
		case at.covers("tcp", want):
			narrows = true
		default:
			return
		}
		undo = append(undo, reusePort(f))
	})
	if len(undo) == 0 {
		return nil, nil, busy
	}
	if !narrows {
		defer func() {
			for _, u := range undo {
				u()
			}
		}()
	}
	c, shares := s.config, false
	c.Control = func(network, address string, raw syscall.RawConn) error {
		if s.config.Control != nil {
			if err := s.config.Control(network, address, raw); err != nil {
				return err
			}
		}
		return raw.Control(func(fd uintptr) { shares = setReusePort(int(fd), true) })
	}
	if narrows {
		sock, err = bindTCP(c, ref.Network, want.at)
	} else {
		sock, err = create(c)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, nil, &besideError{err}
	}
	if err != nil {
		return nil, nil, err
	}
	clear := func() {
		if conn, ok := sock.(syscall.Conn); ok && shares {
			clearReusePort(conn)
		}
	}
	if narrows {
		ref.begin = func() {
			listenAgain(ref.fd, ref.Network)
			clear()
		}
	} else {
		clear()
	}
	return sock, covered, nil
}

// besideError says why two sockets cannot be bound at a time.
type besideError struct{ err error }

func (e *besideError) Error() string {
	return e.err.Error() + ": the socket that has come with this port was opened by another user, as before root's rights were dropped, or somebody else has one: stop the service and start it"
}

func (e *besideError) Unwrap() error { return e.err }

// reusePort sets SO_REUSEPORT, and returns what takes it back.
func reusePort(c syscall.Conn) (undo func()) {
	raw, err := c.SyscallConn()
	if err != nil {
		return func() {}
	}
	set := false
	_ = raw.Control(func(fd uintptr) { set = setReusePort(int(fd), true) }) // without it the address stays in use
	if !set {
		return func() {}
	}
	return func() { clearReusePort(c) }
}

func clearReusePort(c syscall.Conn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { setReusePort(int(fd), false) }) // one that stays shares its port with this user's processes
	}
}

// alias makes connections of a listener that has another name in an older generation come out of this one.
func (s *Set) alias(names []wire.SocketName, r *Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		if n != r.socketName() {
			if s.aliases == nil {
				s.aliases = map[wire.SocketName]*Socket{}
			}
			s.aliases[n] = r
		}
	}
}

// behind returns the open listener that stands for a name of an older generation, or nil.
func (s *Set) behind(network, addr string) *Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.aliases[wire.SocketName{Kind: "listener", Network: network, Addr: addr}]; r != nil && !r.Closed() {
		return r
	}
	return nil
}

// covered reports whether an open socket gets the clients of one that has come, once nobody listens there.
func (s *Set) covered(name wire.SocketName, f *os.File) bool {
	at, ok := spotted(name, f)
	if !ok {
		return false
	}
	for _, r := range s.Refs() {
		if r.kind != name.Kind {
			continue
		}
		if p, ok := r.spot(); ok && (p == at || p.covers(r.Network, at)) {
			return true
		}
	}
	return false
}

// spot is where an open socket is.
func (r *Socket) spot() (p spot, ok bool) {
	switch a := r.local.(type) {
	case *net.TCPAddr:
		p = spot{network: "tcp", at: a.AddrPort()}
	case *net.UDPAddr:
		p = spot{network: "udp", at: a.AddrPort()}
	default:
		return p, false
	}
	p.at = netip.AddrPortFrom(p.at.Addr().Unmap().WithZone(""), p.at.Port())
	return p, len(r.Network) >= 3 && r.Network != sdnotify.Network
}

// Empty takes a listening socket that nobody opens and closes it a moment later, when nothing is left in its queue: what was there, and
// is for an open listener as well, comes out of that.
func (s *Set) Empty(f *os.File) {
	ln, err := net.FileListener(f)
	f.Close()
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		if err == nil {
			ln.Close()
		}
		return
	}
	detach(tcp)
	_ = tcp.SetDeadline(time.Now().Add(emptyFor)) // it never fails
	s.emptying.Go(func() {                        // ends with the deadline
		defer tcp.Close()
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			if k, ok := s.Of(c); !ok || !s.takeIn(k, c) {
				c.Close()
			}
		}
	})
}

func (s *Set) takeIn(k Origin, c net.Conn) bool {
	r, err := s.Find(k.Network, k.Addr)
	return err == nil && r.gate.give(c)
}
