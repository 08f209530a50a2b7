package listener

import (
	"container/list"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// descent describes who has opened a socket.
type descent uint8

const (
	foreign   descent = iota // a socket unit or an unknown program; the socket may belong to a socket unit
	inherited                // this library, in an older process; the socket belongs to no socket unit
	created                  // package net, in this process
	boundHere                // this package, in this process, beside another socket on the port (see beside.go)
)

// own reports whether this library has opened the socket, in this process or in an older process.
func (d descent) own() bool { return d >= inherited }

// fresh reports whether no process had the socket before this process.
func (d descent) fresh() bool { return d >= created }

// Socket is a listener or a packet socket of the program. The program's Accept or ReadFrom waits at the gate of the socket. For
// child processes there is a duplicate of the descriptor. As long as any process has a duplicate, new connections wait in the
// kernel's queue.
type Socket struct {
	kind          string // "listener" or "packet", the words of tableflip
	Network, Addr string // together the name by which the next generation finds the socket, see the method name of sockets
	pinned        bool   // only one process at a time accepts or reads, and connections do not move
	late          bool   // opened after Begin
	shares        bool   // the program, and not this library, has set SO_REUSEPORT
	from          descent
	beside        *neighbours   // not nil while the socket is only bound, and does not listen yet
	place         *list.Element // the place in the order of the index; nil: the socket is not in the index
	fd            int           // the duplicate; -1: there is no duplicate
	inode         uint64
	kept          string        // see KeptAs
	path          string        // the path of a unix socket; empty for other sockets
	link          wire.PathLink // the second name of the file at path
	local         net.Addr
	gate          *gate
	keepAlive     func(*net.TCPConn) // sets the keep-alive of an accepted connection; nil: package net does so in Accept
}

// Accept gives c to the listener: a later call of the program's Accept returns c. If the listener is closed, this method closes
// the descriptor of c in this process, and returns an error.
func (r *Socket) Accept(c net.Conn) error {
	if r.gate.give(c) {
		return nil
	}
	abandon(c)
	return fmt.Errorf("the listener %s %s does not accept", r.Network, r.Addr)
}

// Closed reports whether the program has closed the socket.
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

// isTCP reports whether the socket is a TCP listener.
func (r *Socket) isTCP() bool { return r.kind == "listener" && strings.HasPrefix(r.Network, "tcp") }

// StoreName returns the name under which a service manager is to keep the socket. The name is empty if the manager cannot keep
// the socket.
func (r *Socket) StoreName() string { return sdnotify.StoreName(r.kind, r.Network, r.Addr) }

// Fresh reports whether no process had the socket before this process.
func (r *Socket) Fresh() bool { return r.from.fresh() }

// KeptAs returns another name under which a service manager may keep the socket already. There is such a name if the socket was
// opened first with another spelling of its address. Otherwise KeptAs returns an empty string.
func (r *Socket) KeptAs() string { return r.kept }

// Storable returns a duplicate of the socket, for the service manager to keep. It returns nil if the socket comes from a socket
// unit, or if no duplicate can be made.
func (r *Socket) Storable() *os.File {
	if r.fd < 0 || r.Network == sdnotify.Network {
		return nil // the manager already has the sockets of socket units
	}
	fd, err := sys.DupFD(r.fd)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), r.Addr)
}

// spot returns the spot where the socket is bound. ok is false for unix sockets, and for sockets of socket units.
func (r *Socket) spot() (p spot, ok bool) {
	switch a := r.local.(type) {
	case *net.TCPAddr:
		p = spot{network: "tcp", at: a.AddrPort()}
	case *net.UDPAddr:
		p = spot{network: "udp", at: a.AddrPort()}
	default:
		return p, false
	}
	ip := p.at.Addr()
	p.at = netip.AddrPortFrom(ip.Unmap().WithZone(""), p.at.Port())
	p.both = ip.Is6() && ip.IsUnspecified() && !strings.HasSuffix(r.Network, "6")
	return p, r.Network != sdnotify.Network
}

// duplicate makes the descriptor for child processes.
func (r *Socket) duplicate(c syscall.Conn) (err error) {
	r.fd, r.inode, err = sys.Duplicate(c)
	return err
}

// listen calls listen(2) if the socket is only bound.
func (r *Socket) listen() error {
	if r.beside == nil {
		return nil
	}
	if err := beginListening(r.fd); err != nil {
		return &net.OpError{Op: "listen", Net: r.Network, Source: r.local, Err: err}
	}
	return nil
}

// endBeside removes SO_REUSEPORT from the socket and its neighbours, but not from sockets on which the option was set before.
// The sockets needed the option only to be bound on the same port.
func (r *Socket) endBeside() {
	if r.beside == nil {
		return
	}
	r.beside.takeBack()
	r.beside = nil
	if !r.shares {
		setReusePort(r.fd, false)
	}
}

// drop closes the duplicate. It also ends the duplicates that tableflip keeps of the socket (see passedFDs).
func (r *Socket) drop(passed passedFDs) {
	r.endBeside()
	if r.fd >= 0 {
		sys.CloseFD(r.fd)
		r.fd = -1
		passed.cover(r.inode)
	}
}

// neighbours are the unopened sockets of older processes that have the port of a new socket, which is only bound (see
// beside.go).
type neighbours struct {
	covered []wire.SocketName // the neighbours whose addresses the wildcard address of the new socket covers
	undo    []func()          // for each neighbour, the function that reusePort has returned
}

func (b *neighbours) takeBack() {
	for _, undo := range b.undo {
		undo()
	}
}

// passedFDs has the descriptors that were passed as files at exec. The keys are the inodes of their sockets.
type passedFDs map[uint64][]int

// cover ends the duplicates that tableflip keeps of the socket with this inode.
func (p passedFDs) cover(inode uint64) { coverFDs(inode, p[inode]) }
