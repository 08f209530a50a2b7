package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"syscall"

	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// opener has the steps of openSocket that are different for listeners and for packet connections.
type opener struct {
	inherit func(network, key string) (any, error)           // takes a received socket; returns nil if there is no such socket
	create  func() (any, error)                              // opens a new socket
	adopt   func(sock any, ref *Socket) (syscall.Conn, bool) // fills in ref; returns false if the type of sock is unexpected
}

// Listen returns a listener for network and addr. It takes the listener from an older generation or from the service manager.
// If neither of them has the listener, it opens a new listener.
func (s *Set) Listen(network, addr string, pinned bool) (net.Listener, error) {
	var bare bareListener
	ref, err := s.openSocket("listener", network, addr, pinned, opener{
		inherit: func(network, key string) (any, error) { return orNil(s.fds.Listener(network, key)) },
		create:  func() (any, error) { return orNil(s.config.Listen(context.Background(), network, addr)) },
		adopt: func(sock any, ref *Socket) (c syscall.Conn, ok bool) {
			if bare, ok = sock.(bareListener); ok {
				ref.gate, ref.path, ref.local = newGate(bare.SetDeadline), unixPath(bare.Addr()), bare.Addr()
			}
			return bare, ok
		},
	})
	if err != nil {
		return nil, err
	}
	if tcp, ok := bare.(*net.TCPListener); ok && ref.from != created {
		ref.keepAlive = keepAlive(s.config, tcp)
	}
	return &listener{bare: bare, ref: ref, traffic: &s.traffic, release: s.release}, nil
}

// ListenPacket is Listen for packet sockets. The socket is pinned, because only one process at a time may read from it.
func (s *Set) ListenPacket(network, addr string) (net.PacketConn, error) {
	var bare barePacketConn
	ref, err := s.openSocket("packet", network, addr, true, opener{
		inherit: func(network, key string) (any, error) { return orNil(s.fds.PacketConn(network, key)) },
		create: func() (any, error) {
			return orNil(s.config.ListenPacket(context.Background(), network, addr))
		},
		adopt: func(sock any, ref *Socket) (c syscall.Conn, ok bool) {
			if bare, ok = sock.(barePacketConn); ok {
				ref.gate, ref.path, ref.local = newGate(bare.SetReadDeadline), unixPath(bare.LocalAddr()), bare.LocalAddr()
			}
			return bare, ok
		},
	})
	if err != nil {
		return nil, err
	}
	return newPacketConn(bare, ref, s.release), nil
}

// source describes where a socket comes from, for adopt.
type source struct {
	name    wire.SocketName      // the name by which another process has passed the socket
	descent func(uint64) descent // returns the descent of the socket; the argument is its inode
	others  []wire.SocketName    // names in older generations: of this socket and of sockets whose clients this socket gets
}

// always returns a function that returns d for every inode.
func always(d descent) func(uint64) descent { return func(uint64) descent { return d } }

// openSocket takes a socket from an older generation or from the service manager. If neither of them has the socket, it opens a
// new socket.
func (s *Set) openSocket(kind, network, addr string, pinned bool, o opener) (*Socket, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if hasPath(wire.SocketName{Network: network, Addr: addr}) {
		s.paths.using.Lock()
		defer s.paths.using.Unlock()
	}
	if open := s.Len(); open >= sdnotify.MostSockets && s.supported() {
		return nil, fmt.Errorf("upgrade: listen %s %s: %d sockets are open, and no process can hand on more: close some, or share one", network, addr, open)
	}
	ref := &Socket{kind: kind, Network: network, Addr: s.name(network, addr, pinned && kind == "listener"), pinned: pinned, fd: -1}
	sock, from, err := s.takeOver(ref, addr, o)
	if err != nil {
		return nil, err
	}
	if sock == nil {
		if sock, err = s.create(ref, addr, o, &from); err != nil {
			return nil, err
		}
	}
	if err := s.adopt(ref, sock, o, from); err != nil {
		_ = sock.(io.Closer).Close()
		return nil, fmt.Errorf("upgrade: listen %s %s: %w", network, addr, err)
	}
	s.origins.alias(from.others, ref)
	return ref, nil
}

// takeOver takes a socket from an older generation or from the service manager. sock is nil if neither of them has the socket.
func (s *Set) takeOver(ref *Socket, addr string, o opener) (sock any, from source, err error) {
	came := s.find(ref.socketName())
	from = source{name: came.name, others: []wire.SocketName{came.name}, descent: always(foreign)}
	if came.own {
		from.descent = always(inherited)
	}
	if came.file != nil && came.name != ref.socketName() {
		ref.kept = sdnotify.StoreName(came.name.Kind, came.name.Network, came.name.Addr)
	}
	if s.conflicts(came) {
		return nil, from, fmt.Errorf("upgrade: listen %s %s: %w: this version has opened another socket on the port, and does not share it by SO_REUSEPORT", ref.Network, addr, syscall.EADDRINUSE)
	}
	if s.supported() {
		if sock, err = o.inherit(came.name.Network, came.name.Addr); err != nil {
			return nil, from, fmt.Errorf("upgrade: inherit %s %s: %w", ref.Network, addr, err)
		}
	}
	if sock != nil {
		return sock, from, nil
	}
	from.descent = s.descentOf
	activation := s.passed
	if kept, ok := activation.Stored(ref.StoreName()); ok && s.supported() && hasPath(ref.socketName()) {
		s.paths.bringBack(addr, kept)
	}
	if sock, err = activation.Take(ref.kind, ref.Network, addr, ref.Addr); sock == nil && err == nil {
		sock, ref.kept, err = s.takeKept(ref.socketName())
	}
	if err != nil {
		return nil, from, fmt.Errorf("upgrade: listen %s %s: %w", ref.Network, addr, err)
	}
	return sock, from, nil
}

// create opens a new socket. If unopened sockets of older processes are in the way on the port, create binds the new socket
// beside them. If a killed process has left the path of a unix socket, create removes the path.
func (s *Set) create(ref *Socket, addr string, o opener, from *source) (any, error) {
	sock, err := s.bindBeside(ref)
	if sock == nil && err == nil {
		sock, err = o.create()
	}
	from.descent = always(created)
	if ref.beside != nil {
		from.descent, from.others = always(boundHere), append(from.others, ref.beside.covered...)
	}
	if err != nil && removeStale(ref.Network, addr, err) {
		sock, err = o.create()
	}
	if besides := (*besideError)(nil); errors.Is(err, syscall.EADDRINUSE) && !errors.As(err, &besides) {
		return nil, fmt.Errorf("upgrade: %w: is the service running already? It upgrades on a SIGHUP", err)
	}
	if err != nil {
		return nil, fmt.Errorf("upgrade: listen %s %s: %w", ref.Network, addr, err)
	}
	return sock, nil
}

// bindBeside binds a TCP listener on a port where sockets of older processes are in the way (see beside.go). If there are no
// such sockets, it returns nil.
func (s *Set) bindBeside(ref *Socket) (any, error) {
	if !ref.isTCP() || !s.supported() || s.serves() || !s.hasCome() {
		return nil, nil
	}
	want, ok := spotOf(ref.socketName())
	if !ok {
		return nil, nil
	}
	b := findBeside(want, s.near(want), &s.supply)
	if b == nil {
		return nil, nil
	}
	return b.bind(s.config, ref, want)
}

// adopt fills in ref for the opened socket sock, and adds ref to the set.
func (s *Set) adopt(ref *Socket, sock any, o opener, from source) error {
	setUnlink(sock, false)
	c, ok := o.adopt(sock, ref)
	if !ok {
		return fmt.Errorf("a %T cannot be handed on", sock)
	}
	if s.supported() {
		if err := ref.duplicate(c); err != nil {
			return err
		}
	}
	ref.from = from.descent(ref.inode)
	if ref.from == created && ref.fd >= 0 {
		ref.shares = hasReusePort(ref.fd)
	}
	switch {
	case ref.Network == sdnotify.Network:
		ref.path = "" // the path belongs to the socket unit
	case ref.path != "" && s.supported():
		if abs, err := filepath.Abs(ref.path); err == nil {
			ref.path = abs // the program may change its working directory
		}
		ref.link = s.paths.hold(from.name, ref.path, c, ref.from.fresh())
	}
	s.origins.note(ref)
	s.add(ref)
	return nil
}
