package listener

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

// Origin is a listener's name, and where it listens.
type Origin struct {
	Network, Addr string
	local         net.Addr
	Pinned        bool
}

// Moved is a connection that another generation has accepted.
type Moved interface {
	// Origin names the listener that has accepted it.
	Origin() (network, addr string)
	// Abandon closes this process's descriptor of it: nobody here has taken it.
	Abandon()
}

// abandon closes a connection that nobody has taken. If another process has a descriptor of it, it serves it.
func abandon(c net.Conn) {
	if m, ok := c.(Moved); ok {
		m.Abandon()
		return
	}
	c.Close()
}

// note remembers a listener. s.mu is held.
func (s *Set) note(r *Socket) {
	if r.kind != "listener" {
		return
	}
	k := Origin{r.Network, r.Addr, r.local, r.pinned}
	for i, old := range s.known {
		if old.Network == k.Network && old.Addr == k.Addr {
			s.known = slices.Delete(s.known, i, i+1)
			break
		}
	}
	s.known = append(s.known, k)
}

// Of finds the listener that has accepted a connection.
func (s *Set) Of(c net.Conn) (Origin, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, isMoved := c.(Moved)
	var network, addr string
	if isMoved {
		network, addr = m.Origin()
	}
	local := c.LocalAddr()
	for _, k := range slices.Backward(s.known) { // the last one, if it was closed and opened again
		if isMoved && k.Network == network && k.Addr == addr || !isMoved && k.hasAccepted(local) {
			return k, true
		}
	}
	return Origin{}, false
}

// hasAccepted compares where a listener and a connection are. An address may be a wildcard, a port is none.
func (k Origin) hasAccepted(local net.Addr) bool {
	a, ok1 := k.local.(*net.TCPAddr)
	b, ok2 := local.(*net.TCPAddr)
	if ok1 && ok2 {
		return a.Port == b.Port && (a.IP.IsUnspecified() || a.IP.Equal(b.IP))
	}
	return k.local != nil && local != nil && !ok1 && !ok2 && k.local.String() == local.String()
}

// Names lists the listeners.
func (s *Set) Names() (names []wire.SocketName) {
	for _, r := range s.Refs() {
		if r.kind == "listener" {
			names = append(names, wire.SocketName{Kind: r.kind, Network: r.Network, Addr: r.Addr})
		}
	}
	return names
}

// Dup returns duplicates of the open sockets: the program may close one of them at any moment, and the number that this
// sets free may be another connection's in the next. The caller calls drop when they were inherited.
func (s *Set) Dup() (files []process.Inherited, drop func(), err error) {
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
			return nil, nil, sys.Explain(fmt.Errorf("duplicate %s %s: %w", r.Network, r.Addr, err))
		}
		files = append(files, process.Inherited{Name: [3]string{r.kind, r.Network, r.Addr}, FD: uintptr(fd)})
	}
	return files, drop, nil
}

// Find returns the open listener of a name; the first one that is not pinned if there is none.
func (s *Set) Find(network, addr string) (*Socket, error) {
	for _, r := range s.Refs() {
		named := r.Network == network && r.Addr == addr
		if r.kind == "listener" && (named || addr == "" && !r.pinned) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("there is no listener %s %s", network, addr)
}

// Give hands a private connection to a listener.
func (s *Set) Give(network, addr string, file *os.File) error {
	r, err := s.Find(network, addr)
	if err != nil {
		return err
	}
	c, err := net.FileConn(file)
	if err != nil {
		return err
	}
	return r.Accept(c)
}

// Accept makes a connection the next one of a listener, or closes this process's descriptor of it.
func (r *Socket) Accept(c net.Conn) error {
	if r.gate.give(c) {
		return nil
	}
	abandon(c)
	return fmt.Errorf("the listener %s %s does not accept", r.Network, r.Addr)
}
