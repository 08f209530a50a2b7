package listener

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// passing has duplicates of sockets for another process, which inherits them.
type passing []process.Inherited

func (p *passing) add(name wire.SocketName, fd int) error {
	dup, err := sys.DupFD(fd)
	if err != nil {
		return fmt.Errorf("duplicate %s %s: %w", name.Network, name.Addr, err)
	}
	*p = append(*p, process.Inherited{Name: [3]string{name.Kind, name.Network, name.Addr}, FD: uintptr(dup)})
	return nil
}

func (p passing) drop() {
	for _, f := range p {
		sys.CloseFD(int(f.FD))
	}
}

// Dup returns duplicates of the open sockets and of the unopened received sockets, which a process may have after a failed
// attempt. The originals cannot be passed: the program may close a socket at any moment, and another connection may then get
// its number. The caller calls drop when the other process has inherited the duplicates.
func (s *Set) Dup() (files []process.Inherited, drop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p passing
	for _, r := range s.all {
		if r.beside != nil {
			continue // the other process could not see that the socket does not listen
		}
		if err := p.add(r.socketName(), r.fd); err != nil {
			p.drop()
			return nil, nil, err
		}
	}
	for _, f := range s.unopened() {
		if err := p.add(f.name, int(sys.FD(f.file))); err != nil {
			p.drop()
			return nil, nil, err
		}
	}
	return p, p.drop, nil
}

// unopened returns the received sockets that the program has not opened.
func (s *Set) unopened() []received {
	if r := s.received(); r != nil {
		return r.all()
	}
	return nil
}

// Own returns the names of the open sockets and of the unopened received sockets, without sockets that a service manager has.
func (s *Set) Own() map[wire.SocketName]bool {
	names := s.list(func(r *Socket) bool { return r.from.own() })
	for _, f := range s.unopened() {
		if f.own {
			names = append(names, f.name)
		}
	}
	return asSet(names)
}

// NoteLinks notes the second names of sockets that were passed as files at exec.
func (s *Set) NoteLinks(names []wire.SocketName, came []wire.PathLink) {
	s.paths.links.note(names, came)
}

// Links returns the second names of the open sockets with the given names, in the same order; nil if no socket has a second
// name.
func (s *Set) Links(names []wire.SocketName) (all []wire.PathLink) {
	known := links{}
	for _, r := range s.Refs() {
		if r.link.Ino != 0 {
			known[r.socketName()] = r.link
		}
	}
	if len(known) == 0 {
		return nil
	}
	for _, n := range names {
		all = append(all, known[n])
	}
	return all
}

// Missing returns the received sockets that this process has not opened, and whose clients no open socket gets. expected has
// the names that the older generation has sent for files at exec.
func (s *Set) Missing(expected []wire.SocketName) []Missing {
	if r := s.received(); r != nil {
		return r.missing(func(f received) bool { return covered(f, s.Refs()) })
	}
	return missingNames(expected, s.list(func(*Socket) bool { return true }))
}

// ClaimRest takes the received sockets that this version has not opened. If sockets were passed as files at exec, ClaimRest
// takes the named sockets: otherwise Ready of tableflip would remove their paths, and the old process might still have to serve
// there. drop ends all of these sockets later.
func (s *Set) ClaimRest(names []wire.SocketName) (drop func()) {
	if s.received() != nil {
		return s.DropRest
	}
	var rest []wire.SocketName
	var claimed []io.Closer
	for _, n := range names {
		if slices.Contains(s.Paths(), n) {
			continue
		}
		rest = append(rest, n)
		if ln, err := s.fds.Listener(n.Network, n.Addr); err == nil && ln != nil {
			claimed = append(claimed, ln)
		}
		if pc, err := s.fds.PacketConn(n.Network, n.Addr); err == nil && pc != nil {
			claimed = append(claimed, pc)
		}
	}
	return func() {
		for _, c := range claimed {
			s.end(c)
		}
		for _, n := range rest {
			removePath(startPath(n.Addr), s.paths.links[n])
		}
	}
}

// end closes a socket that was passed and not opened, and the duplicate that tableflip keeps of the socket.
func (s *Set) end(c io.Closer) {
	var inode uint64
	if sc, ok := c.(syscall.Conn); ok {
		if fd, n, err := sys.Duplicate(sc); err == nil {
			sys.CloseFD(fd)
			inode = n
		}
	}
	c.Close()
	s.atExec.cover(inode)
}

// DropRest ends the unopened received sockets. No other process may serve on these sockets when DropRest is called.
func (s *Set) DropRest() {
	if r := s.received(); r != nil {
		for _, f := range r.takeTCP() {
			s.Empty(f)
		}
		r.Close(true)
	}
}

// Empty takes over an unopened received socket on which no process serves any more. Accept of the open listeners returns the
// connections in the queue of the socket, each connection from the listener for its address. Empty closes the socket after a
// second, or after a minute if an open listener has the same address.
func (s *Set) Empty(f *os.File) {
	is, _ := describe(int(sys.FD(f)))
	at, known := spotted(is, f)
	ln, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		ln.Close()
		return
	}
	limit := emptyFor
	if known && sharesSpot(at, s.Refs()) {
		limit = shareFor
	} else {
		detach(tcp)
	}
	s.queues.start(tcp, limit, func(c net.Conn) {
		if k, ok := s.Of(c); !ok || !s.takeIn(k, c) && !s.traffic.moveOn(c) {
			c.Close()
		}
	})
}

// takeIn gives a connection to the listener k. It reports false if that listener is closed.
func (s *Set) takeIn(k Origin, c net.Conn) bool {
	r, err := s.Find(k.Network, k.Addr)
	if err != nil {
		return false
	}
	if t, ok := c.(*net.TCPConn); ok && r.keepAlive != nil {
		r.keepAlive(t)
	}
	return r.gate.give(c)
}

// EndEmptying ends what Empty has begun within 10 milliseconds, because another process serves now. EndEmptying does not wait
// for the end.
func (s *Set) EndEmptying() { s.queues.hurry() }
