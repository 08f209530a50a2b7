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

// passing has duplicates of sockets. Another process inherits the duplicates.
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

// Dup returns duplicates of the open sockets and of the unopened received sockets. A process may still have unopened received
// sockets after a failed attempt. The originals cannot be passed: the program may close a socket at any moment, and another
// connection may get the number of the closed descriptor. The caller calls drop when the other process has inherited the
// duplicates.
func (s *Set) Dup() (files []process.Inherited, drop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p passing
	for _, r := range s.all {
		if r.beside != nil {
			continue // the socket is not passed: the other process could not see that the socket does not listen
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

// Own returns the names of the open sockets and of the unopened received sockets. It leaves out sockets that this library has
// not opened: a service manager may also have such sockets.
func (s *Set) Own() map[wire.SocketName]bool {
	names := s.list(func(r *Socket) bool { return r.from.own() })
	for _, f := range s.unopened() {
		if f.own {
			names = append(names, f.name)
		}
	}
	return asSet(names)
}

// NoteLinks notes the second names (see path.go) of sockets that were passed as files at exec. came has an element for each of
// names.
func (s *Set) NoteLinks(names []wire.SocketName, came []wire.PathLink) {
	s.paths.links.note(names, came)
}

// Links returns the second names of the open sockets with the given names, in the same order. It returns nil if no open socket
// has a second name.
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

// Missing returns the received sockets that this process has not opened. It leaves out late sockets, and sockets whose clients
// go to an open socket. If sockets were passed as files at exec, expected has the names that the older generation has sent for
// the files.
func (s *Set) Missing(expected []wire.SocketName) []Missing {
	if r := s.received(); r != nil {
		return r.missing(func(f received) bool { return covered(f, s.Refs()) })
	}
	return missingNames(expected, s.list(func(*Socket) bool { return true }))
}

// ClaimRest prepares the end of the received sockets that this version has not opened. The caller calls drop later, and drop
// ends these sockets. If sockets were passed as files at exec, names has the names of the unix sockets with a path, and
// ClaimRest takes those that are not open. Otherwise Ready of tableflip would remove their paths, although the old process may
// still have to serve there.
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

// end closes a socket that was passed but not opened. It also closes the duplicate that tableflip keeps of the socket.
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

// DropRest ends the unopened received sockets. It must be called only when no other process serves on these sockets.
func (s *Set) DropRest() {
	if r := s.received(); r != nil {
		for _, f := range r.takeTCP() {
			s.Empty(f)
		}
		r.Close(true)
	}
}

// Empty takes over the queue of an unopened received TCP listener on which no process serves any more. For each connection in
// the queue, Empty finds the listener of this process for the connection's address. Accept of this listener returns the
// connection. If this listener is closed, the connection goes to the process that serves. If there is no such listener, Empty
// closes the connection. Empty closes the received listener after a second. If an open listener has the same address, it does
// so after a minute.
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

// takeIn gives a connection to the listener k. It returns false if this listener is closed.
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

// EndEmptying is called when another process begins to serve. All emptying that Empty has begun ends within 10 milliseconds of
// the call. EndEmptying does not wait for this end.
func (s *Set) EndEmptying() { s.queues.hurry() }
