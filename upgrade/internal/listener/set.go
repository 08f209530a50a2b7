package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Inheritor returns the sockets that an older generation has handed over; nil and nil for one that it does not have.
type Inheritor interface {
	Listener(network, addr string) (net.Listener, error)
	PacketConn(network, addr string) (net.PacketConn, error)
}

// Set is every listening socket of the process. A child gets those that are open at the time of the upgrade.
type Set struct {
	fds       Inheritor            // nil where upgrades are not supported
	inherited map[uint64][]int     // the descriptors that tableflip inherited, by inode
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
	keep           bool // a closed listener is still handed on (an aborted candidate, until it ends)
	// unlink: closing a unix listener removes its path, as nobody else serves on it.
	unlink  bool
	changed func(r *Socket, open bool) // hears what the main generation opens and closes
}

// Dispatch decides on a connection that a listener has accepted, and reports whether another process has it now.
type Dispatch func(r *Socket, c net.Conn) bool

// Socket is one listening socket: what the program has of it, and the duplicate that a child will get. The kernel's
// queue belongs to the socket, so it keeps its connections for as long as any process holds a duplicate.
type Socket struct {
	set           *Set
	kind          string // tableflip's word: "listener" or "packet"
	Network, Addr string // tableflip's key
	pinned        bool
	fd            int
	inode         uint64
	path          string // of a unix socket
	local         net.Addr
	gate          *gate
}

// bareListener is what *net.TCPListener and *net.UnixListener have in common.
type bareListener interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

// listener is the net.Listener that the program gets. Its connections are bare ones of package net.
type listener struct {
	bare bareListener
	ref  *Socket
}

func (l *listener) Accept() (c net.Conn, err error) {
	for {
		given, err := l.ref.gate.through(func() error {
			c, err = l.bare.Accept()
			return err
		})
		if given != nil {
			return given, nil
		}
		if d := l.ref.set.dispatch.Load(); err != nil || d == nil || l.ref.pinned || !(*d)(l.ref, c) {
			return c, err
		}
	}
}

// Close passes on what has moved here and nobody has accepted: a server that is told to leave does not look again.
func (l *listener) Close() error {
	for _, c := range l.ref.gate.close() {
		if !l.ref.set.moveOn(c) {
			abandon(c)
		}
	}
	err := l.bare.Close()
	l.ref.set.release(l.ref)
	return err
}

func (l *listener) Addr() net.Addr                        { return l.bare.Addr() }
func (l *listener) SetDeadline(t time.Time) error         { return l.ref.gate.setDeadline(t) }
func (l *listener) SyscallConn() (syscall.RawConn, error) { return l.bare.SyscallConn() }

// New makes an empty set. fds is nil where upgrades are not supported. moveOn passes a connection to the process
// that serves, if there is one, and reports whether it could.
func New(fds Inheritor, moveOn func(net.Conn) bool) *Set {
	return &Set{fds: fds, moveOn: moveOn}
}

// Activate makes the sockets of a service manager available to listen.
func (s *Set) Activate(passed *sdnotify.Activation) { s.passed = passed }

// ClaimInherited notes which descriptors the old process has passed, before anything else is opened.
func (s *Set) ClaimInherited() { s.inherited = inheritedFDs() }

func (s *Set) supported() bool { return s.fds != nil }

// Listen inherits the listener that an older generation opened under the same network and address, or opens one.
func (s *Set) Listen(network, addr string, pinned bool) (net.Listener, error) {
	var bare bareListener
	ref, err := s.openSocket("listener", network, addr, pinned, opener{
		inherit: func(key string) (any, error) { return orNil(s.fds.Listener(network, key)) },
		create:  func() (any, error) { return orNil(new(net.ListenConfig).Listen(context.Background(), network, addr)) },
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
	return &listener{bare: bare, ref: ref}, nil
}

// opener is how a kind of socket comes to be.
type opener struct {
	inherit func(key string) (any, error)
	create  func() (any, error)
	adopt   func(sock any, ref *Socket) (syscall.Conn, bool)
}

// orNil keeps a nil listener from becoming an interface that is not nil.
func orNil[T comparable](sock T, err error) (any, error) {
	var none T
	if err != nil || sock == none {
		return nil, err
	}
	return sock, nil
}

func (s *Set) openSocket(kind, network, addr string, pinned bool, o opener) (*Socket, error) {
	s.opening.Lock() // the name of one socket depends on those that are open
	defer s.opening.Unlock()
	ref := &Socket{set: s, kind: kind, Network: network, Addr: s.key(network, addr, pinned && kind == "listener"), pinned: pinned, fd: -1}
	var sock any
	var err error
	if s.supported() {
		if sock, err = o.inherit(ref.Addr); err != nil {
			return nil, fmt.Errorf("upgrade: inherit %s %s: %w", network, addr, err)
		}
	}
	if sock == nil {
		if sock, err = s.passed.Take(kind, network, addr, ref.Addr); err != nil {
			return nil, fmt.Errorf("upgrade: listen %s %s: %w", network, addr, err)
		}
	}
	if sock == nil {
		sock, err = o.create()
		if err != nil && removeStale(network, addr, err) {
			sock, err = o.create()
		}
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("upgrade: %w: is the service running already? It upgrades on a SIGHUP", err)
	}
	if err != nil {
		return nil, fmt.Errorf("upgrade: listen %s %s: %w", network, addr, err)
	}
	setUnlink(sock, false)
	conn, ok := o.adopt(sock, ref)
	if network == sdnotify.Network {
		ref.path = "" // its path belongs to the socket unit
	}
	if !ok {
		err = fmt.Errorf("a %T cannot be handed on", sock)
	} else {
		err = s.add(ref, conn)
	}
	if err != nil {
		_ = sock.(io.Closer).Close()
		return nil, fmt.Errorf("upgrade: listen %s %s: %w", network, addr, err)
	}
	return ref, nil
}

func setUnlink(v any, on bool) {
	if u, ok := v.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(on)
	}
}

func unixPath(a net.Addr) string {
	if ua, ok := a.(*net.UnixAddr); ok && !strings.HasPrefix(ua.Name, "@") {
		return ua.Name
	}
	return ""
}

// removeStale removes the path of a unix socket that nobody listens on any more, left by a process that was killed. A
// socket that somebody holds never refuses, not even when nobody accepts.
func removeStale(network, addr string, err error) bool {
	if !strings.HasPrefix(network, "unix") || strings.HasPrefix(addr, "@") || !errors.Is(err, syscall.EADDRINUSE) {
		return false
	}
	c, err := net.Dial(network, addr)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED) && os.Remove(addr) == nil
}

// key names a socket for the next generation. Several of the same address, two of ":0", are told apart by their order;
// the first one has the plain address, as tableflip itself would name it. Other addresses cannot be bound twice, and
// tableflip removes a unix path that a new process does not claim, so they stay as they are.
func (s *Set) key(network, addr string, pinned bool) string {
	if _, port, err := net.SplitHostPort(addr); err != nil || port != "0" && port != "" {
		return addr
	}
	if pinned {
		addr += "#pinned"
	}
	for n := 1; ; n++ {
		key := addr
		if n > 1 {
			key += "#" + strconv.Itoa(n)
		}
		if !slices.ContainsFunc(s.Refs(), func(r *Socket) bool { return r.Network == network && r.Addr == key }) {
			return key
		}
	}
}

func (s *Set) add(ref *Socket, c syscall.Conn) (err error) {
	if s.supported() {
		if ref.fd, ref.inode, err = sys.Duplicate(c); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, ref)
	s.note(ref)
	if s.changed != nil {
		s.changed(ref, true)
	}
	if ref.pinned && s.pinned || !ref.pinned && s.shared {
		ref.gate.open()
	}
	return nil
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

// ClaimRest takes those of the named sockets that this version has not opened. tableflip would remove their paths with
// Ready, when the old process might still have to serve on them; the function that is returned does it later.
func (s *Set) ClaimRest(names []wire.SocketName) (drop func()) {
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
			c.Close()
		}
		for _, n := range rest {
			os.Remove(n.Addr)
		}
	}
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

// StoreName is the name under which a service manager keeps the socket; empty if it cannot have one.
func (r *Socket) StoreName() string { return sdnotify.StoreName(r.kind, r.Network, r.Addr) }

// Storable returns a descriptor of a socket that may be sent away, or nil.
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

func (r *Socket) drop(unlink bool) {
	if unlink && r.path != "" {
		os.Remove(r.path)
	}
	if r.fd >= 0 {
		sys.CloseFD(r.fd)
		r.fd = -1
		coverFDs(r.inode, r.set.inherited[r.inode])
	}
}

// ReleaseAll drops what is left.
func (s *Set) ReleaseAll() {
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

// FirstFailure returns the first error that failed has noted.
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
		if pinned || !r.pinned {
			r.gate.open()
		}
	}
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
