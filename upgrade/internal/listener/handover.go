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

// passing are duplicates of sockets that another process is to inherit.
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

// Dup returns duplicates of the open sockets, and of the received ones that were not opened, which a process still has when it
// is taken back. The originals would not do: the program may close a socket at any moment, and its number may be another
// connection's in the next. The caller calls drop when the other process has inherited the duplicates.
func (s *Set) Dup() (files []process.Inherited, drop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p passing
	for _, r := range s.all {
		if r.beside != nil {
			continue // it does not listen: a process that gets the socket could not tell
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

// unopened returns the received sockets that were not opened.
func (s *Set) unopened() []received {
	if r := s.received(); r != nil {
		return r.all()
	}
	return nil
}

// Own lists the sockets that no service manager has, with the received ones that were not opened.
func (s *Set) Own() map[wire.SocketName]bool {
	names := s.list(func(r *Socket) bool { return r.from.own() })
	for _, f := range s.unopened() {
		if f.own {
			names = append(names, f.name)
		}
	}
	return asSet(names)
}

// NoteLinks takes the second names of sockets that came as files at exec.
func (s *Set) NoteLinks(names []wire.SocketName, came []wire.PathLink) {
	s.paths.links.note(names, came)
}

// Links returns the second names of open sockets, in the order of their names; nil if there are none.
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

// Missing lists the received sockets that are not open. Of files at exec the older generation has sent the expected names.
func (s *Set) Missing(expected []wire.SocketName) []Missing {
	if r := s.received(); r != nil {
		return r.missing(func(f received) bool { return covered(f, s.Refs()) })
	}
	return missingNames(expected, s.list(func(*Socket) bool { return true }))
}

// ClaimRest takes the received sockets that this version has not opened. Of files at exec it takes the named ones: tableflip
// would remove their paths with Ready, when the old process might still have to serve on them. The returned function ends all
// of these sockets later.
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

// end closes a socket that was handed over and not opened, with the duplicate that tableflip keeps.
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

// DropRest ends the received sockets that were not opened, when no other process serves there.
func (s *Set) DropRest() {
	if r := s.received(); r != nil {
		for _, f := range r.takeTCP() {
			s.Empty(f)
		}
		r.Close(true)
	}
}

// Empty takes a listening socket that was not opened and serves no other process any more, and closes the socket when its queue
// is empty. A connection for an open listener comes out of that listener.
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

// EndEmptying takes what is in such queues now, and ends them: this process does not serve any more. It does not wait.
func (s *Set) EndEmptying() { s.queues.hurry() }
