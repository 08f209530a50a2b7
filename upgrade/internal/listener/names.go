package listener

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

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
	Others        []wire.SocketName // the names that it has in an older generation
}

// Moved is a connection that another generation has accepted.
type Moved interface {
	// Origin names the listener that has accepted it.
	Origin() (network, addr string)
	// Plain returns the connection of package net below, which is this process's alone from then on; nil if something is to be
	// read from it first.
	Plain() net.Conn
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
	k := Origin{Network: r.Network, Addr: r.Addr, local: r.local, Pinned: r.pinned}
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
	if r := s.aliases[wire.SocketName{Kind: "listener", Network: network, Addr: addr}]; r != nil {
		network, addr = r.Network, r.Addr
	}
	local := c.LocalAddr()
	for _, k := range slices.Backward(s.known) { // the last one, if it was closed and opened again
		if isMoved && k.Network == network && k.Addr == addr || !isMoved && k.hasAccepted(local) {
			k.Others = s.others(k.Network, k.Addr)
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
		return a.Port == b.Port && (a.IP.Equal(b.IP) || a.IP.IsUnspecified() && k.hasFamily(a.IP, b.IP))
	}
	return k.local != nil && local != nil && !ok1 && !ok2 && k.local.String() == local.String()
}

// hasFamily reports whether a wildcard listener has connections of an address: that of IPv6 has those of IPv4 too, unless
// its network says otherwise.
func (k Origin) hasFamily(wildcard, ip net.IP) bool {
	is4 := ip.To4() != nil
	return is4 && k.Network != "tcp6" || !is4 && wildcard.To4() == nil
}

// Takes says which connections of another process can come out of the listeners here.
func (s *Set) Takes() (b wire.TakesBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	takes := func(name wire.SocketName, r *Socket) {
		if !r.ahead.Load() {
			b.Plain = append(b.Plain, len(b.Listeners))
		}
		b.Listeners = append(b.Listeners, name)
	}
	for _, r := range s.all {
		if r.kind == "listener" {
			takes(r.socketName(), r)
		}
	}
	for name, r := range s.aliases {
		if r.kind == "listener" && !r.Closed() {
			takes(name, r)
		}
	}
	return b
}

// Find returns the open listener that has this name. With an empty addr it returns the first listener that is not pinned.
func (s *Set) Find(network, addr string) (*Socket, error) {
	for _, r := range s.Refs() {
		named := r.Network == network && r.Addr == addr
		if r.kind == "listener" && (named || addr == "" && !r.pinned) {
			return r, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.behind(network, addr); r != nil {
		return r, nil
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

func unixPath(a net.Addr) string {
	if ua, ok := a.(*net.UnixAddr); ok && !strings.HasPrefix(ua.Name, "@") {
		return ua.Name
	}
	return ""
}

// name returns the name by which the next generation finds a socket; the network is the other half of it. A unix path is its own
// name, as it cannot be bound twice, and tableflip removes one that a new process does not claim. An address that is opened once
// more, with port 0 or SO_REUSEPORT, has the order in its name: ":0", as tableflip itself would name it, then ":0#2", ":0#3".
// Pinned listeners with port 0 count apart: ":0#pinned", ":0#pinned#2". The caller holds s.opening.
func (s *Set) name(network, addr string, pinned bool) string {
	if _, _, err := net.SplitHostPort(addr); err != nil || strings.HasPrefix(network, "unix") {
		return addr
	}
	if pinned && hasNoPort(addr) {
		addr += "#pinned"
	}
	taken := map[string]bool{}
	for _, r := range s.Refs() {
		if r.Network == network && strings.HasPrefix(r.Addr, addr) && !r.Closed() {
			taken[r.Addr] = true
		}
	}
	key := addr
	for n := 2; taken[key]; n++ {
		key = addr + "#" + strconv.Itoa(n)
	}
	return key
}

// Paths names the unix sockets that have a path.
func (s *Set) Paths() (names []wire.SocketName) {
	for _, r := range s.Refs() {
		if r.path != "" {
			names = append(names, wire.SocketName{Kind: r.kind, Network: r.Network, Addr: r.Addr})
		}
	}
	return names
}

// PutBack sees to it that clients reach the open sockets by their paths: a path comes back if nothing is there, or a socket that
// nobody holds. The error says which socket cannot be reached, and why.
func (s *Set) PutBack() (first error) {
	more := 0
	for _, r := range s.Refs() {
		if r.path == "" || !s.supported() {
			continue
		}
		err := s.paths.putBack(r.Network, r.path, r.link)
		if first == nil {
			first = err
		} else if err != nil {
			more++
		}
	}
	if more > 0 {
		return fmt.Errorf("%w (and %d more)", first, more)
	}
	return first
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

// ClaimRest takes what has come along and this version has not opened: the named sockets, if they came as files at exec, since
// tableflip would remove their paths with Ready, when the old process might still have to serve on them. The function that is
// returned ends all of that later.
func (s *Set) ClaimRest(names []wire.SocketName) (drop func()) {
	if _, ok := s.fds.(*Received); ok {
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
	coverFDs(inode, s.inherited[inode])
}
