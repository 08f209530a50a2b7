package listener

import (
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

// descent is where a socket has come from.
type descent uint8

const (
	foreign   descent = iota // from elsewhere, and a service manager may have the socket as well
	inherited                // this library has opened the socket in an older process: no service manager has the socket
	created                  // package net has opened the socket in this process
	boundHere                // this package has bound the socket beside another one on the port, see beside.go
)

// own reports whether this library has opened the socket, here or in an older generation.
func (d descent) own() bool { return d >= inherited }

// fresh reports whether no other process had the socket before.
func (d descent) fresh() bool { return d >= created }

// Socket is one listening socket: what the program has of it, and the duplicate that a child will get. The kernel's queue
// belongs to the socket, and keeps its connections for as long as any process holds a duplicate.
type Socket struct {
	kind          string // tableflip's word: "listener" or "packet"
	Network, Addr string // the name of the socket in the next generation, which is tableflip's key
	pinned        bool
	late          bool // opened after Begin
	shares        bool // the program has set SO_REUSEPORT
	from          descent
	beside        *neighbours // the socket is bound and does not listen yet; nil: it listens
	fd            int         // the duplicate; -1: there is none
	inode         uint64
	kept          string        // the name under which a service manager keeps the socket, if that is another one than the socket's own
	path          string        // of a unix socket
	link          wire.PathLink // the second name of the file at path
	local         net.Addr
	gate          *gate
	keepAlive     func(*net.TCPConn) // sets up a connection that is accepted; nil: package net does
}

// Accept makes a connection the next one of a listener, or closes this process's descriptor of the connection.
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

// isTCP reports whether the socket is a listener of TCP.
func (r *Socket) isTCP() bool { return r.kind == "listener" && strings.HasPrefix(r.Network, "tcp") }

// StoreName is the name under which a service manager keeps the socket; empty if the socket cannot have a name there.
func (r *Socket) StoreName() string { return sdnotify.StoreName(r.kind, r.Network, r.Addr) }

// Fresh reports whether no other process had the socket before.
func (r *Socket) Fresh() bool { return r.from.fresh() }

// KeptAs is the name under which a service manager may keep the socket since it was opened by another spelling; empty: there is none.
func (r *Socket) KeptAs() string { return r.kept }

// Storable returns a descriptor that may be sent away, or nil.
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

// spot is where an open socket is.
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

// duplicate makes the descriptor that children get.
func (r *Socket) duplicate(c syscall.Conn) (err error) {
	r.fd, r.inode, err = sys.Duplicate(c)
	return err
}

// listen makes a socket listen that is only bound.
func (r *Socket) listen() error {
	if r.beside == nil {
		return nil
	}
	if err := beginListening(r.fd); err != nil {
		return &net.OpError{Op: "listen", Net: r.Network, Source: r.local, Err: err}
	}
	return nil
}

// endBeside takes SO_REUSEPORT back, which a bound socket needs beside its neighbours.
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

// drop closes the duplicate, and removes the path of a unix socket with unlink.
func (r *Socket) drop(unlink bool, passed passedFDs) {
	if unlink && r.path != "" {
		removePath(r.path, r.link)
	}
	r.endBeside()
	if r.fd >= 0 {
		sys.CloseFD(r.fd)
		r.fd = -1
		passed.cover(r.inode)
	}
}

// neighbours are the received sockets that share the port of a bound one, until the bound one listens.
type neighbours struct {
	covered []wire.SocketName // lose all their clients to the bound socket
	undo    []func()          // takes SO_REUSEPORT back from each
}

func (b *neighbours) takeBack() {
	for _, undo := range b.undo {
		undo()
	}
}

// passedFDs are the descriptors that were passed as files at exec, by the inode of their socket.
type passedFDs map[uint64][]int

// cover ends the duplicates that tableflip keeps of a socket.
func (p passedFDs) cover(inode uint64) { coverFDs(inode, p[inode]) }
