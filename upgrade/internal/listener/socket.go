package listener

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Socket is one listening socket: what the program has of it, and the duplicate that a child will get. The kernel's
// queue belongs to the socket, so it keeps its connections for as long as any process holds a duplicate.
type Socket struct {
	set           *Set
	kind          string // tableflip's word: "listener" or "packet"
	Network, Addr string // its name in the next generation, which is tableflip's key
	pinned        bool
	late, fresh   bool // opened after Begin; by the kernel
	own           bool // it was opened by this library, here or in an older generation: no service manager has it
	fd            int
	inode         uint64
	kept          string        // the name under which a service manager keeps it, if that is another one than its own
	path          string        // of a unix socket
	link          wire.PathLink // the second name of its file
	local         net.Addr
	gate          *gate
	begin         func() error // makes it listen, with the commit; nil: it listens
	begun         func()       // after that: takes back what was set for it
	made          bool         // package net did not open it
	shares        bool         // the program has set SO_REUSEPORT
	conn          syscall.Conn
	keepAlive     func(*net.TCPConn) // of what it accepts, if package net does not know that
	ahead         atomic.Bool        // its connections are read by a server that reads first what came along
}

// opener is how a kind of socket comes to be.
type opener struct {
	inherit func(network, key string) (any, error)
	create  func() (any, error)
	adopt   func(sock any, ref *Socket) (syscall.Conn, bool)
}

// orNil keeps a nil listener from becoming an interface that is not nil.
func orNil[T comparable](sock T, err error) (any, error) {
	var none T
	if err != nil || sock == none {
		return nil, err
	}
	return sock, nil
}

// source is where a socket has come from.
type source struct {
	name   wire.SocketName         // what it was called there
	others []wire.SocketName       // names that older generations have for it
	own    func(inode uint64) bool // whether this library has opened it
}

// openSocket takes a socket from the first that has it: an older generation, the service manager, the kernel.
func (s *Set) openSocket(kind, network, addr string, pinned bool, o opener) (*Socket, error) {
	s.opening.Lock() // the name of one socket depends on those that are open
	defer s.opening.Unlock()
	if open := len(s.Refs()); open >= sdnotify.MostSockets && s.supported() {
		return nil, fmt.Errorf("upgrade: listen %s %s: %d sockets are open, and no process can hand on more: close some, or share one", network, addr, open)
	}
	ref := &Socket{set: s, kind: kind, Network: network, Addr: s.name(network, addr, pinned && kind == "listener"), pinned: pinned, fd: -1}
	sock, from, err := s.takeOver(ref, addr, o)
	if err != nil {
		return nil, err
	}
	if sock == nil {
		if sock, err = s.create(ref, addr, o, &from); err != nil {
			return nil, err
		}
	}
	setUnlink(sock, false)
	conn, ok := o.adopt(sock, ref)
	if network == sdnotify.Network {
		ref.path = "" // its path belongs to the socket unit
	}
	if !ok {
		err = fmt.Errorf("a %T cannot be handed on", sock)
	} else {
		if ref.path != "" && s.supported() {
			if abs, err := filepath.Abs(ref.path); err == nil {
				ref.path = abs // the program may change its working directory
			}
			ref.link = s.paths.hold(from.name, ref.path, conn, ref.fresh)
		}
		err = s.add(ref, conn, from.own)
	}
	if err != nil {
		_ = sock.(io.Closer).Close()
		return nil, fmt.Errorf("upgrade: listen %s %s: %w", network, addr, err)
	}
	s.alias(from.others, ref)
	return ref, nil
}

// takeOver takes a socket from an older generation, or else from the service manager; nil if neither has it.
func (s *Set) takeOver(ref *Socket, addr string, o opener) (sock any, from source, err error) {
	came := s.find(ref.socketName())
	from = source{name: came.name, others: []wire.SocketName{came.name}, own: func(uint64) bool { return came.own }}
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
	from.own = func(inode uint64) bool { return !s.passed.IsUnit(inode) }
	if kept, ok := s.passed.Stored(ref.StoreName()); ok && s.supported() && hasPath(ref.socketName()) {
		s.paths.bringBack(addr, kept)
	}
	if sock, err = s.passed.Take(ref.kind, ref.Network, addr, ref.Addr); sock == nil && err == nil {
		sock, ref.kept, err = s.takeKept(ref.socketName())
	}
	if err != nil {
		return nil, from, fmt.Errorf("upgrade: listen %s %s: %w", ref.Network, addr, err)
	}
	return sock, from, nil
}

// create opens a socket.
func (s *Set) create(ref *Socket, addr string, o opener, from *source) (any, error) {
	ref.fresh, from.own = true, func(uint64) bool { return true }
	sock, covered, err := s.beside(ref)
	if sock == nil && err == nil {
		sock, err = o.create()
	}
	from.others, ref.made = append(from.others, covered...), ref.begin != nil
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

func setUnlink(v any, on bool) {
	if u, ok := v.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(on)
	}
}

// removeStale removes the path of a unix socket that nobody listens on any more, left by a process that was killed. A
// socket that somebody holds never refuses, not even when nobody accepts.
func removeStale(network, addr string, err error) bool {
	if !strings.HasPrefix(network, "unix") || strings.HasPrefix(addr, "@") || !errors.Is(err, syscall.EADDRINUSE) {
		return false
	}
	c, err := net.Dial(network, addr)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED) && removeSocket(addr)
}

// removeSocket removes the path of a unix socket, and reports whether it could. A file of another kind stays: connecting to
// a regular file is refused too, and a socket may have been replaced meanwhile.
func removeSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0 && os.Remove(path) == nil
}

// removePath removes the path of a socket that has ended, and its second name. What is there in place of the socket stays.
func removePath(path string, l wire.PathLink) {
	if l.Ino == 0 {
		removeSocket(path)
		return
	}
	if isFile(path, l) {
		_ = os.Remove(path) // a path that stays is replaced by the next process that listens there
	}
	dropLink(path, l)
}

// Accept makes a connection the next one of a listener, or closes this process's descriptor of it.
func (r *Socket) Accept(c net.Conn) error {
	if r.gate.give(c) {
		return nil
	}
	abandon(c)
	return fmt.Errorf("the listener %s %s does not accept", r.Network, r.Addr)
}

// Closed reports whether the program has closed it.
func (r *Socket) Closed() bool {
	select {
	case <-r.gate.closed:
		return true
	default:
		return false
	}
}

func (r *Socket) socketName() wire.SocketName {
	return wire.SocketName{Kind: r.kind, Network: r.Network, Addr: r.Addr}
}

// StoreName is the name under which a service manager keeps the socket; empty if it cannot have one.
func (r *Socket) StoreName() string { return sdnotify.StoreName(r.kind, r.Network, r.Addr) }

// Fresh reports whether no other process had it before.
func (r *Socket) Fresh() bool { return r.fresh }

// KeptAs is the name under which a service manager may keep the socket since it was opened by another spelling; empty: there is none.
func (r *Socket) KeptAs() string { return r.kept }

// Storable returns a descriptor of a socket that may be sent away, or nil.
func (r *Socket) Storable() *os.File {
	if r.fd < 0 || r.Network == sdnotify.Network {
		return nil // what a socket unit passed is kept by whoever passed it
	}
	fd, err := sys.DupFD(r.fd)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), r.Addr)
}

func (r *Socket) drop(unlink bool) {
	if unlink && r.path != "" {
		removePath(r.path, r.link)
	}
	r.endBeside()
	if r.fd >= 0 {
		sys.CloseFD(r.fd)
		r.fd = -1
		coverFDs(r.inode, r.set.inherited[r.inode])
	}
}
