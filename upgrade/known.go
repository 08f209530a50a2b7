package upgrade

import (
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Which listener a connection belongs to, for connections that change process: there they come out of the listener that
// has the same name.

// knownListener is a listener's name, and where it listens.
type knownListener struct {
	network, addr string
	local         net.Addr
	pinned        bool
}

// moved is a connection that another generation has accepted.
type moved interface {
	// Origin names the listener that has accepted it.
	Origin() (network, addr string)
	// Abandon closes this process's descriptor of it: nobody here has taken it.
	Abandon()
}

// abandon closes a connection that nobody has taken. If another process has a descriptor of it, it serves it.
func abandon(c net.Conn) {
	if m, ok := c.(moved); ok {
		m.Abandon()
		return
	}
	c.Close()
}

// note remembers a listener. s.mu is held.
func (s *listeners) note(r *socketRef) {
	if r.kind != "listener" {
		return
	}
	k := knownListener{r.network, r.addr, r.local, r.pinned}
	for i, old := range s.known {
		if old.network == k.network && old.addr == k.addr {
			s.known = slices.Delete(s.known, i, i+1)
			break
		}
	}
	s.known = append(s.known, k)
}

// of finds the listener that has accepted a connection.
func (s *listeners) of(c net.Conn) (knownListener, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, isMoved := c.(moved)
	var network, addr string
	if isMoved {
		network, addr = m.Origin()
	}
	local := c.LocalAddr()
	for _, k := range slices.Backward(s.known) { // the last one, if it was closed and opened again
		if isMoved && k.network == network && k.addr == addr || !isMoved && k.hasAccepted(local) {
			return k, true
		}
	}
	return knownListener{}, false
}

// hasAccepted compares where a listener and a connection are. An address may be a wildcard, a port is none.
func (k knownListener) hasAccepted(local net.Addr) bool {
	a, ok1 := k.local.(*net.TCPAddr)
	b, ok2 := local.(*net.TCPAddr)
	if ok1 && ok2 {
		return a.Port == b.Port && (a.IP.IsUnspecified() || a.IP.Equal(b.IP))
	}
	return k.local != nil && local != nil && !ok1 && !ok2 && k.local.String() == local.String()
}

// names lists the listeners.
func (s *listeners) names() (names []wire.SocketName) {
	for _, r := range s.refs() {
		if r.kind == "listener" {
			names = append(names, wire.SocketName{Kind: r.kind, Network: r.network, Addr: r.addr})
		}
	}
	return names
}

// dup returns duplicates of the open sockets: the program may close one of them at any moment, and the number that this
// sets free may be another connection's in the next. The caller calls drop when they were inherited.
func (s *listeners) dup() (files []process.Inherited, drop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	drop = func() {
		for _, f := range files {
			sys.CloseFD(int(f.FD))
		}
	}
	for _, r := range s.all {
		fd, err := sys.DupFD(r.fd)
		if err != nil {
			drop()
			return nil, nil, sys.Explain(fmt.Errorf("duplicate %s %s: %w", r.network, r.addr, err))
		}
		files = append(files, process.Inherited{Name: [3]string{r.kind, r.network, r.addr}, FD: uintptr(fd)})
	}
	return files, drop, nil
}

// find returns the open listener of a name; the first one that is not pinned if there is none.
func (s *listeners) find(network, addr string) (*socketRef, error) {
	for _, r := range s.refs() {
		named := r.network == network && r.addr == addr
		if r.kind == "listener" && (named || addr == "" && !r.pinned) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("there is no listener %s %s", network, addr)
}

// give hands a private connection to a listener.
func (s *listeners) give(network, addr string, file *os.File) error {
	r, err := s.find(network, addr)
	if err != nil {
		return err
	}
	c, err := net.FileConn(file)
	if err != nil {
		return err
	}
	return r.accept(c)
}

// accept makes a connection the next one of a listener, or closes this process's descriptor of it.
func (r *socketRef) accept(c net.Conn) error {
	if r.gate.give(c) {
		return nil
	}
	abandon(c)
	return fmt.Errorf("the listener %s %s does not accept", r.network, r.addr)
}
