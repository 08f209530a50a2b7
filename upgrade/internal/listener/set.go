// Package listener holds the listening sockets of a process. A socket comes from an older generation or from a service manager,
// or the package opens a new socket. The package makes Accept wait, for example while another generation serves. It passes the
// sockets to the next generation.
//
//	set.go        Set: all sockets of the process; it consists of the following types
//	opening.go    how a Set opens a socket for the program
//	handover.go   how a Set passes sockets on, and what happens to received sockets that were not opened
//	sockets.go    sockets: the open sockets
//	index.go      index: finds an open socket by its name or its spot
//	spots.go      spots: finds a socket by its spot
//	accepting.go  which open sockets may accept, and when a socket begins to listen
//	supply.go     supply: the sockets that other processes have opened
//	received.go   Received: the sockets that came over the control socket
//	missing.go    Missing: a socket of the older generation that was not opened
//	origin.go     origins: which listener a connection belongs to
//	emptying.go   emptying: takes the last connections from the queues of listeners that end
//	socket.go     Socket: an open socket
//	beside.go     a socket that is bound beside received sockets on the same port
//	spot.go       spot: where a socket is bound, however the address is spelled
//	bare.go       the underlying sockets of package net
//	moved.go      Moved: a connection that another generation has accepted
//	listener.go   the net.Listener that the program gets
//	packet.go     the net.PacketConn that the program gets
//	gate.go       gate: makes Accept and ReadFrom wait (gate.md has a diagram of the states)
//	path.go       paths: puts back the path of a unix socket that was removed
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

// Set has all listening sockets of the process. A child gets the sockets that are open at the time of the upgrade. The file
// parts.go of package upgrade has the order of the locks.
type Set struct {
	sockets
	supply
	config  net.ListenConfig // for sockets that this process opens
	paths   paths
	origins origins
	traffic traffic
	queues  emptying

	opening sync.Mutex // locked while a socket is opened, because the name of the socket depends on the other open sockets
	failed  error      // the result of FirstFailure; the lock sockets.mu guards it
}

// New makes an empty Set. fds is nil on platforms where upgrades are not supported. The function moveOn passes a connection to
// the process that serves, and reports whether that process has the connection now.
func New(fds Inheritor, moveOn func(net.Conn) bool) *Set {
	return &Set{
		supply: supply{fds: fds}, traffic: traffic{moveOn: moveOn},
		paths: paths{log: slog.New(slog.DiscardHandler), links: links{}, remove: removePath},
	}
}

// Configure sets the configuration for sockets that this process opens.
func (s *Set) Configure(c net.ListenConfig) { s.config = c }

// LogTo sets the logger for messages about the paths of unix sockets.
func (s *Set) LogTo(log *slog.Logger) { s.paths.log = log }

// Activate makes the sockets of a service manager available to Listen and ListenPacket.
func (s *Set) Activate(passed *sdnotify.Activation) { s.passed = passed }

// Receive makes the sockets in r available to Listen and ListenPacket. After Receive, sockets that tableflip has inherited are
// not available.
func (s *Set) Receive(r *Received) { s.fds, s.paths.links = r, r.links }

// SetDispatch makes Accept call fn with every connection that comes from a socket, except on pinned listeners. If fn is nil,
// all connections stay in this process.
func (s *Set) SetDispatch(fn Dispatch) {
	if fn == nil {
		s.traffic.dispatch.Store(nil)
	} else {
		s.traffic.dispatch.Store(&fn)
	}
}

// NoteFailure notes that a socket could not be opened. FirstFailure returns the first such error, for the report of a candidate
// that fails.
func (s *Set) NoteFailure(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

// FirstFailure returns the error of the first call of NoteFailure, or nil.
func (s *Set) FirstFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// ReleaseAll closes all remaining sockets. It hurries the emptying of queues, and waits for the end of the emptying and of the
// removal of paths.
func (s *Set) ReleaseAll() {
	left := s.takePaths()
	if r := s.received(); r != nil {
		r.Close()
	}
	s.queues.hurry()
	if len(left) > 0 {
		s.paths.using.Lock()
		for _, r := range left {
			s.end(r, true)
		}
		s.paths.using.Unlock()
	}
	s.paths.removing.Wait()
	s.queues.running.Wait()
}

// release removes a socket that the program has closed. It closes the duplicate, so that no child gets the socket. While closed
// sockets are kept (see KeepClosed), release does nothing.
func (s *Set) release(r *Socket) {
	if r.path != "" { // before UnlinkOnClose can be called: see AwaitRemoval
		s.paths.using.Lock()
		defer s.paths.using.Unlock()
	}
	if unlink, ok := s.take(r); ok {
		s.end(r, unlink)
	}
}

// end ends a socket that was taken out of the list. The path is removed before the duplicate is closed: until then no other file
// can have the inode of the path. The caller holds paths.using if the socket has a path.
func (s *Set) end(r *Socket, unlink bool) {
	if unlink && r.path != "" {
		s.paths.remove(r.path, r.link)
	}
	s.drop(r)
}

// AwaitRemoval waits until the removals of paths that have begun are over. After UnlinkOnClose(false) and AwaitRemoval, this
// process removes no path. AwaitRemoval may wait for a file system that hangs.
func (s *Set) AwaitRemoval() { s.paths.await() }

// PutBack makes the open unix sockets reachable by their paths. It puts a path back if no file is there, or if the file there
// belongs to a dead socket, which no process holds. If clients still cannot reach some of the sockets, PutBack returns an
// error. The error names the first of these sockets and the reason, and counts the other sockets.
func (s *Set) PutBack() (first error) {
	s.paths.using.Lock() // the path of a socket that ends in the meantime is removed afterwards
	defer s.paths.using.Unlock()
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

// Of returns the listener that has accepted a connection. The result is false if no such listener is known.
func (s *Set) Of(c net.Conn) (Origin, bool) { return s.origins.of(c) }

// Find returns the open listener with the given name. If there is none, Find returns the open listener that had this name in an
// older generation. If addr is empty, Find returns the first listener that is not pinned.
func (s *Set) Find(network, addr string) (*Socket, error) {
	if r := s.named(network, addr); r != nil {
		return r, nil
	}
	if r := s.origins.byAlias(network, addr); r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("there is no listener %s %s", network, addr)
}

// Give makes a private connection (see Candidate.Dial in package upgrade) from its descriptor, and gives the connection to a
// listener. The caller closes the file.
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

// Takes returns the names of the listeners to which another process may pass connections. These are all listeners of this
// process, with their names here and in older generations.
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
