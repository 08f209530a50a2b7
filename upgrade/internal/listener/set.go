// Package listener holds the listening sockets of a process: it inherits them from an older generation, takes them from a
// service manager or opens them, holds Accept back while another generation is the one to serve, and hands them on.
//
//	set.go       Set: all sockets of the process
//	socket.go    Socket: one of them, and where it comes from
//	received.go  Received: what has come in the control socket
//	missing.go   what of it was not opened
//	listener.go  what the program gets: a net.Listener
//	packet.go    the same for datagrams: a net.PacketConn
//	gate.go      what holds Accept and ReadFrom back
//	path.go      the path of a unix socket, which comes back when it was removed
//	respelled.go an address that the new version spells in another way
//	beside.go    a socket beside another one on its port
//	names.go     the name of a socket in the next generation, and which listener a connection belongs to
package listener

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Inheritor returns the sockets that an older generation has handed over, and nil without an error for a socket that the
// older generation does not have. It is Received, or tableflip's Fds if they were passed as files at exec.
type Inheritor interface {
	Listener(network, addr string) (net.Listener, error)
	PacketConn(network, addr string) (net.PacketConn, error)
}

// Set is every listening socket of the process. A child gets those that are open at the time of the upgrade.
type Set struct {
	fds       Inheritor            // nil where upgrades are not supported
	config    net.ListenConfig     // for what is opened here
	inherited map[uint64][]int     // the descriptors that were passed as files at exec, by inode
	passed    *sdnotify.Activation // what the service manager has passed
	moveOn    func(net.Conn) bool  // passes a connection to the process that serves, if there is one

	dispatch atomic.Pointer[Dispatch] // gives connections to a candidate; nil: all are ours

	opening sync.Mutex

	mu    sync.Mutex
	all   []*Socket
	known []Origin // all that were ever open: their connections live longer
	err   error    // the first one that could not be opened
	// What is opened now accepts at once: listeners, and pinned ones.
	shared, pinned bool
	begun          bool // what is opened now is late
	held           int  // how often Hold was called and not ended: nothing accepts meanwhile
	keep           bool // a closed listener is still handed on (an aborted candidate, until it ends)
	// unlink: closing a unix listener removes its path, as nobody else serves on it.
	unlink   bool
	paths    paths
	aliases  map[wire.SocketName]*Socket // names that listeners here have in an older generation
	listens  bool                        // BeginListening was called
	emptying sync.WaitGroup              // queues of sockets that end
	ending   []*net.TCPListener          // the same
	changed  func(r *Socket, open bool)  // hears what the main generation opens and closes
}

// Dispatch decides on a connection that a listener has accepted, and reports whether another process has the connection
// now. Accept then waits for the next one.
type Dispatch func(r *Socket, c net.Conn) bool

// New makes an empty set. fds is nil where upgrades are not supported. moveOn passes a connection to the process
// that serves, if there is one, and reports whether it could.
func New(fds Inheritor, moveOn func(net.Conn) bool) *Set {
	return &Set{fds: fds, moveOn: moveOn, paths: paths{log: slog.New(slog.DiscardHandler), links: links{}}}
}

// Configure says how sockets are opened.
func (s *Set) Configure(c net.ListenConfig) { s.config = c }

// LogTo says where to log what happens to paths.
func (s *Set) LogTo(log *slog.Logger) { s.paths.log = log }

// Activate makes the sockets of a service manager available to listen.
func (s *Set) Activate(passed *sdnotify.Activation) { s.passed = passed }

// ClaimInherited notes which descriptors the old process has passed, before anything else is opened.
func (s *Set) ClaimInherited() { s.inherited = inheritedFDs() }

func (s *Set) supported() bool { return s.fds != nil }

// Listen inherits the listener that an older generation opened under the same network and address, or opens one.
func (s *Set) Listen(network, addr string, pinned bool) (net.Listener, error) {
	var bare bareListener
	ref, err := s.openSocket("listener", network, addr, pinned, opener{
		inherit: func(network, key string) (any, error) { return orNil(s.fds.Listener(network, key)) },
		create:  func() (any, error) { return orNil(s.config.Listen(context.Background(), network, addr)) },
		adopt: func(sock any, ref *Socket) (c syscall.Conn, ok bool) {
			if bare, ok = sock.(bareListener); ok {
				ref.gate, ref.path, ref.local = newGate(bare.SetDeadline), unixPath(bare.Addr()), bare.Addr()
			}
			return bare, ok
		},
	})
	if err != nil {
		return nil, err
	}
	if tcp, ok := bare.(*net.TCPListener); ok && (!ref.fresh || ref.made) {
		ref.keepAlive = keepAlive(s.config, tcp)
	}
	return &listener{bare: bare, ref: ref}, nil
}

// ListenPacket is Listen for datagrams. The socket is pinned: it stays with one process at a time.
func (s *Set) ListenPacket(network, addr string) (net.PacketConn, error) {
	var bare barePacketConn
	ref, err := s.openSocket("packet", network, addr, true, opener{
		inherit: func(network, key string) (any, error) { return orNil(s.fds.PacketConn(network, key)) },
		create: func() (any, error) {
			return orNil(s.config.ListenPacket(context.Background(), network, addr))
		},
		adopt: func(sock any, ref *Socket) (c syscall.Conn, ok bool) {
			if bare, ok = sock.(barePacketConn); ok {
				ref.gate, ref.path, ref.local = newGate(bare.SetReadDeadline), unixPath(bare.LocalAddr()), bare.LocalAddr()
			}
			return bare, ok
		},
	})
	if err != nil {
		return nil, err
	}
	return newPacketConn(bare, ref), nil
}

func (s *Set) add(ref *Socket, c syscall.Conn, own func(inode uint64) bool) (err error) {
	if s.supported() {
		if ref.fd, ref.inode, err = sys.Duplicate(c); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ref.late, ref.own, ref.conn = s.begun, own(ref.inode), c
	ref.shares = ref.shares || ref.begin == nil && ref.fresh && ref.fd >= 0 && hasReusePort(ref.fd)
	s.all = append(s.all, ref)
	s.note(ref)
	if s.changed != nil {
		s.changed(ref, true)
	}
	if s.accepts(ref) {
		ref.gate.open()
	}
	return nil
}

// release forgets a socket that the program has closed, so that it really closes and no child gets it.
func (s *Set) release(ref *Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keep {
		return
	}
	for i, r := range s.all {
		if r == ref {
			s.all = append(s.all[:i:i], s.all[i+1:]...)
			if s.changed != nil {
				s.changed(ref, false)
			}
			ref.drop(s.unlink)
			return
		}
	}
}

// ReleaseAll drops what is left, and may wait a second for queues that are emptied.
func (s *Set) ReleaseAll() {
	s.drop()
	if r, ok := s.fds.(*Received); ok {
		r.Close(false)
	}
	s.EndEmptying()
	s.emptying.Wait()
}

func (s *Set) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		r.drop(s.unlink)
	}
	s.all = nil
}

// NoteFailure notes the first socket that could not be opened, for the reason that a candidate gives.
func (s *Set) NoteFailure(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// FirstFailure returns the first error of NoteFailure.
func (s *Set) FirstFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// SetDispatch makes Accept ask fn about every connection; nil: all are this process's.
func (s *Set) SetDispatch(fn Dispatch) {
	if fn == nil {
		s.dispatch.Store(nil)
	} else {
		s.dispatch.Store(&fn)
	}
}

// UnlinkOnClose says whether closing a unix listener removes its path: nobody else serves on it.
func (s *Set) UnlinkOnClose(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlink = on
}

// KeepClosed says whether a listener that the program closes is still handed on.
func (s *Set) KeepClosed(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = on
}

// Follow calls each for every open socket, and from then on changed for those that are opened and closed. It holds the
// lock of the set meanwhile. nil: nobody follows.
func (s *Set) Follow(each func(*Socket), changed func(r *Socket, open bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = changed
	if each == nil {
		return
	}
	for _, r := range s.all {
		each(r)
	}
}

// Refs returns the open sockets, in the order in which they were opened.
func (s *Set) Refs() []*Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Socket(nil), s.all...)
}

// Open lets the program accept, now and on what it opens later; on pinned listeners only if they are meant as well.
func (s *Set) Open(pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared, s.pinned = true, s.pinned || pinned
	for _, r := range s.all {
		if (pinned || !r.pinned) && s.accepts(r) {
			r.gate.open()
		}
	}
}

// Hold stops accepting until resume is called, whatever Open and Pause say meanwhile. A reader that is inside the system call
// may still get a connection.
func (s *Set) Hold() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held++
	for _, r := range s.all {
		r.gate.shut()
	}
	return s.resume
}

func (s *Set) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	for _, r := range s.all {
		if s.accepts(r) {
			r.gate.open()
		}
	}
}

// accepts reports whether the gate of a socket is to be open. The lock is held.
func (s *Set) accepts(r *Socket) bool {
	return s.held == 0 && r.begin == nil && (r.pinned && s.pinned || !r.pinned && s.shared)
}

// Pause stops accepting, on pinned listeners only if they are meant as well. Connections wait in the kernel's queue for
// whoever accepts next.
func (s *Set) Pause(pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared, s.pinned = false, s.pinned && !pinned
	for _, r := range s.all {
		if pinned || !r.pinned {
			r.gate.shut()
		}
	}
}

// End makes Accept and ReadFrom of the open sockets return net.ErrClosed, for a program that goes on although it was told to
// finish. The sockets stay open, and can be handed on.
func (s *Set) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared, s.pinned = false, false
	for _, r := range s.all {
		r.gate.end()
	}
}

// Accepting waits until the program has called Accept on every listener, which shows that it is ready to serve.
func (s *Set) Accepting(ctx context.Context) error {
	for _, r := range s.Refs() {
		if r.kind != "listener" {
			continue
		}
		select {
		case <-r.gate.waiting:
		case <-r.gate.closed:
			return fmt.Errorf("the listener %s %s was closed before anybody accepted on it", r.Network, r.Addr)
		case <-ctx.Done():
			return fmt.Errorf("nobody accepts on the listener %s %s: %w", r.Network, r.Addr, context.Cause(ctx))
		}
	}
	return nil
}

// ListenAgain gives the queues of sockets that were opened by an older process the length that the kernel allows by now. To be called
// when nobody else serves on them. Sockets of a service manager have the length that the manager says.
func (s *Set) ListenAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.own && !r.fresh && r.kind == "listener" && r.fd >= 0 {
			listenAgain(r.fd, r.Network)
		}
	}
}

// Dup returns duplicates of the open sockets, and of what has come and was not opened, which a process that is taken back has still: the program may close one of them at any moment, and the number that this
// sets free may be another connection's in the next. The caller calls drop when they were inherited.
func (s *Set) Dup() (files []process.Inherited, drop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	drop = func() {
		for _, f := range files {
			sys.CloseFD(int(f.FD))
		}
	}
	add := func(name wire.SocketName, fd int) error {
		dup, err := sys.DupFD(fd)
		if err != nil {
			return fmt.Errorf("duplicate %s %s: %w", name.Network, name.Addr, err)
		}
		files = append(files, process.Inherited{Name: [3]string{name.Kind, name.Network, name.Addr}, FD: uintptr(dup)})
		return nil
	}
	for _, r := range s.all {
		if r.begin != nil {
			continue // it does not listen: whoever gets it could not tell
		}
		if err := add(r.socketName(), r.fd); err != nil {
			drop()
			return nil, nil, err
		}
	}
	if r, ok := s.fds.(*Received); ok {
		for _, f := range r.all() {
			if err := add(f.name, int(sys.FD(f.file))); err != nil {
				drop()
				return nil, nil, err
			}
		}
	}
	return files, drop, nil
}
