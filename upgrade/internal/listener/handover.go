package listener

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// passing has duplicates of sockets, for another process to inherit.
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

// Dup returns duplicates of the open sockets, and of the received sockets that the program has not opened. The caller calls
// drop when the other process has inherited the duplicates. The originals cannot be passed, because the program may close a
// socket at any moment. Another connection may then get the number of the closed descriptor.
func (s *Set) Dup() (files []process.Inherited, drop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p passing
	for r := range s.all.each() {
		if r.beside != nil {
			continue // the socket is only bound, and the other process could not see that it does not listen
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
func (s *Set) unopened() []*received {
	if r := s.received(); r != nil {
		return r.all()
	}
	return nil
}

// Own returns the names of the open sockets and of the unopened received sockets that this library has opened, here or in an
// older process. Other sockets may belong to a socket unit.
func (s *Set) Own() map[wire.SocketName]bool {
	names := s.list(func(r *Socket) bool { return r.from.own() })
	for _, f := range s.unopened() {
		if f.own {
			names = append(names, f.name)
		}
	}
	return asSet(names)
}

// NoteLinks notes the second names (see path.go) of sockets that were passed as files at exec. came has the second names in the
// order of names.
func (s *Set) NoteLinks(names []wire.SocketName, came []wire.PathLink) {
	s.paths.links.note(names, came)
}

// Links returns the second names of the sockets with the given names, in the same order. If the file of a socket is not known,
// the element of this socket is empty. If the file of no open socket is known, Links returns nil.
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

// Missing returns the received sockets that this process should have opened and has not. It leaves out late sockets, and
// sockets whose clients will go to an open socket. For sockets that were passed as files at exec, expected has the names that
// the older generation has sent. In this case Missing returns the expected names that are not open.
func (s *Set) Missing(expected []wire.SocketName) []Missing {
	if r := s.received(); r != nil {
		return r.missing(s.covers)
	}
	return missingNames(expected, s.list(func(*Socket) bool { return true }))
}

// ClaimRest is called before the commit, and returns a function that ends the unopened received sockets later. If the sockets
// were passed as files at exec, names has the names of the unix sockets with a path. Ready of tableflip would remove the paths
// of the unopened ones, but the old process may still have to serve at these paths. So ClaimRest takes the unopened ones out of
// tableflip.
func (s *Set) ClaimRest(names []wire.SocketName) (drop func()) {
	if s.received() != nil {
		return s.DropRest
	}
	open := asSet(s.Paths())
	var rest []wire.SocketName
	var claimed []io.Closer
	for _, n := range names {
		if open[n] {
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
		s.paths.removeLater(func() {
			for _, c := range claimed {
				s.endUnopened(c)
			}
			for _, n := range rest {
				s.paths.remove(startPath(n.Addr), s.paths.links[n])
			}
		})
	}
}

// endUnopened closes a socket that was passed but not opened. If tableflip keeps a duplicate of the socket, endUnopened closes
// the duplicate as well.
func (s *Set) endUnopened(c io.Closer) {
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

// DropRest closes the received sockets that this process has not opened, and removes the paths of unix sockets. If a socket is
// a TCP listener of this library, DropRest calls Empty for it instead. DropRest must be called only when no other process
// serves on these sockets.
func (s *Set) DropRest() {
	if r := s.received(); r != nil {
		for _, f := range r.take((*received).isOwnTCP) {
			s.Empty(f.file)
		}
		for _, f := range r.take((*received).hasNoPath) {
			f.file.Close()
		}
		s.paths.removeLater(func() {
			for _, f := range r.take(anyReceived) {
				s.paths.remove(startPath(f.name.Addr), r.links[f.name])
				f.file.Close()
			}
		})
	}
}

// Empty takes the connections out of the queue of an unopened received TCP listener, on which no process serves any more. f is
// the received listener. Each connection goes to the listener of this process for the connection's address, and Accept of that
// listener returns it. If that listener is closed, the connection goes to the process that serves. If there is no such
// listener, Empty closes the connection. The received listener is closed after a second, or after a minute if an open listener
// has the same address. Empty does not wait for the end.
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
	if known && s.sharesSpot(at) {
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

// takeIn gives a connection to the listener k of this process. It returns false if the listener is closed.
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

// EndEmptying makes all emptying that Empty has begun end within 10 milliseconds, and does not wait for the end. It is called
// when another process begins to serve.
func (s *Set) EndEmptying() { s.queues.hurry() }
