// Package listener holds the listening sockets of a process: it inherits them from an older generation, takes them from a
// service manager or opens them, holds Accept back while another generation is the one to serve, and hands them on.
//
//	set.go        Set: all sockets of the process, which consists of what follows
//	opening.go    how a socket of a Set comes to be
//	handover.go   what a Set passes on to another process, and what it has not opened of what has come
//	sockets.go    sockets: the open ones
//	accepting.go  which of them accept, and from when on they listen
//	supply.go     supply: where sockets come from that other processes have opened
//	received.go   Received: what has come in the control socket
//	missing.go    Missing: what of it was not opened
//	origin.go     origins: which listener a connection belongs to
//	emptying.go   emptying: the queues of sockets that end
//	socket.go     Socket: one of the open ones
//	beside.go     a socket that is bound beside its neighbours on the port
//	spot.go       spot: where a socket is, however its address is spelled
//	bare.go       the sockets of package net below
//	moved.go      Moved: a connection that another generation has accepted
//	listener.go   what the program gets: a net.Listener
//	packet.go     the same for datagrams: a net.PacketConn
//	gate.go       gate: what holds Accept and ReadFrom back (gate.md draws its states)
//	path.go       paths: the path of a unix socket, which comes back when it was removed
package listener

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Set is every listening socket of the process. A child gets the sockets that are open at the time of the upgrade.
type Set struct {
	sockets
	supply
	config  net.ListenConfig // for what is opened here
	paths   paths
	origins origins
	traffic traffic
	queues  emptying

	opening sync.Mutex // one socket at a time: the name of a socket depends on those that are open
	failed  error      // the first socket that could not be opened; mu guards it
}

// New makes an empty set. fds is nil where upgrades are not supported. moveOn passes a connection to the process that serves,
// and reports whether there is such a process and takes the connection.
func New(fds Inheritor, moveOn func(net.Conn) bool) *Set {
	return &Set{
		supply: supply{fds: fds}, traffic: traffic{moveOn: moveOn},
		paths: paths{log: slog.New(slog.DiscardHandler), links: links{}},
	}
}

// Configure sets how sockets are opened.
func (s *Set) Configure(c net.ListenConfig) { s.config = c }

// LogTo sets where to log what happens to paths.
func (s *Set) LogTo(log *slog.Logger) { s.paths.log = log }

// Activate makes the sockets of a service manager available to listen.
func (s *Set) Activate(passed *sdnotify.Activation) { s.passed = passed }

// Receive makes the sockets available to listen, in place of those that tableflip has inherited.
func (s *Set) Receive(r *Received) { s.fds, s.paths.links = r, r.links }

// SetDispatch makes Accept call fn with every connection; with nil all connections are this process's.
func (s *Set) SetDispatch(fn Dispatch) {
	if fn == nil {
		s.traffic.dispatch.Store(nil)
	} else {
		s.traffic.dispatch.Store(&fn)
	}
}

// NoteFailure notes the first socket that could not be opened, for the reason that a candidate gives.
func (s *Set) NoteFailure(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

// FirstFailure returns the first error of NoteFailure.
func (s *Set) FirstFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// ReleaseAll drops what is left, and may wait a second for queues that are emptied.
func (s *Set) ReleaseAll() {
	s.drop()
	if r := s.received(); r != nil {
		r.Close(false)
	}
	s.queues.hurry()
	s.queues.running.Wait()
}

// PutBack makes clients reach the open sockets by their paths: a path comes back if nothing is there, or a socket that no
// process holds. The error names the socket that cannot be reached, and the reason.
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

// Of finds the listener that has accepted a connection.
func (s *Set) Of(c net.Conn) (Origin, bool) { return s.origins.of(c) }

// Find returns the open listener of a name, here or in an older generation. With an empty addr it returns the first listener
// that is not pinned.
func (s *Set) Find(network, addr string) (*Socket, error) {
	if r := s.named(network, addr); r != nil {
		return r, nil
	}
	if r := s.origins.behind(network, addr); r != nil {
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

// Takes returns which connections of another process can come out of the listeners here.
func (s *Set) Takes() (b wire.TakesBody) {
	takes := func(name wire.SocketName, r *Socket) {
		if !r.gate.ahead.Load() {
			b.Plain = append(b.Plain, len(b.Listeners))
		}
		b.Listeners = append(b.Listeners, name)
	}
	for _, r := range s.Refs() {
		if r.kind == "listener" {
			takes(r.socketName(), r)
		}
	}
	s.origins.eachAlias(takes)
	return b
}
