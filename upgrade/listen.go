package upgrade

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

	"github.com/cloudflare/tableflip"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// listeners is every listening socket of the process. A child gets those that are open at the time of the upgrade.
type listeners struct {
	tf        *tableflip.Upgrader  // nil where it is not supported
	inherited map[uint64][]int     // the descriptors that tableflip inherited, by inode
	passed    *sdnotify.Activation // what the service manager has passed
	moveOn    func(net.Conn) bool  // passes a connection to the process that serves, if there is one

	dispatch atomic.Pointer[dispatch] // gives connections to a candidate; nil: all are ours

	opening sync.Mutex

	mu    sync.Mutex
	all   []*socketRef
	known []knownListener // all that were ever open: their connections live longer
	err   error           // the first one that could not be opened
	// What is opened now accepts at once: listeners, and pinned ones.
	shared, pinned bool
	keep           bool // a closed listener is still handed on (an aborted candidate, until it ends)
	// unlink: closing a unix listener removes its path, as nobody else serves on it.
	unlink  bool
	changed func(r *socketRef, open bool) // hears what the main generation opens and closes
}

// dispatch decides on a connection that a listener has accepted, and reports whether another process has it now.
type dispatch func(r *socketRef, c net.Conn) bool

// socketRef is one listening socket: what the program has of it, and the duplicate that a child will get. The kernel's
// queue belongs to the socket, so it keeps its connections for as long as any process holds a duplicate.
type socketRef struct {
	set           *listeners
	kind          string // tableflip's word: "listener" or "packet"
	network, addr string // tableflip's key
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
	ref  *socketRef
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

func (s *listeners) supported() bool { return s.tf != nil }

// listen inherits the listener that an older generation opened under the same network and address, or opens one.
func (s *listeners) listen(network, addr string, pinned bool) (net.Listener, error) {
	var bare bareListener
	ref, err := s.openSocket("listener", network, addr, pinned, opener{
		inherit: func(key string) (any, error) { return orNil(s.tf.Fds.Listener(network, key)) },
		create:  func() (any, error) { return orNil(new(net.ListenConfig).Listen(context.Background(), network, addr)) },
		adopt: func(sock any, ref *socketRef) (c syscall.Conn, ok bool) {
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
	adopt   func(sock any, ref *socketRef) (syscall.Conn, bool)
}

// orNil keeps a nil listener from becoming an interface that is not nil.
func orNil[T comparable](sock T, err error) (any, error) {
	var none T
	if err != nil || sock == none {
		return nil, err
	}
	return sock, nil
}

func (s *listeners) openSocket(kind, network, addr string, pinned bool, o opener) (*socketRef, error) {
	s.opening.Lock() // the name of one socket depends on those that are open
	defer s.opening.Unlock()
	ref := &socketRef{set: s, kind: kind, network: network, addr: s.key(network, addr, pinned && kind == "listener"), pinned: pinned, fd: -1}
	var sock any
	var err error
	if s.supported() {
		if sock, err = o.inherit(ref.addr); err != nil {
			return nil, fmt.Errorf("upgrade: inherit %s %s: %w", network, addr, err)
		}
	}
	if sock == nil {
		if sock, err = s.passed.Take(kind, network, addr, ref.addr); err != nil {
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
func (s *listeners) key(network, addr string, pinned bool) string {
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
		if !slices.ContainsFunc(s.refs(), func(r *socketRef) bool { return r.network == network && r.addr == key }) {
			return key
		}
	}
}

func (s *listeners) add(ref *socketRef, c syscall.Conn) (err error) {
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

// paths names the unix sockets that have a path.
func (s *listeners) paths() (names []wire.SocketName) {
	for _, r := range s.refs() {
		if r.path != "" {
			names = append(names, wire.SocketName{Kind: r.kind, Network: r.network, Addr: r.addr})
		}
	}
	return names
}

// claimRest takes those of the named sockets that this version has not opened. tableflip would remove their paths with
// Ready, when the old process might still have to serve on them; the function that is returned does it later.
func (s *listeners) claimRest(names []wire.SocketName) (drop func()) {
	var rest []wire.SocketName
	var claimed []io.Closer
	for _, n := range names {
		if slices.Contains(s.paths(), n) {
			continue
		}
		rest = append(rest, n)
		if ln, err := s.tf.Fds.Listener(n.Network, n.Addr); err == nil && ln != nil {
			claimed = append(claimed, ln)
		}
		if pc, err := s.tf.Fds.PacketConn(n.Network, n.Addr); err == nil && pc != nil {
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
func (s *listeners) release(ref *socketRef) {
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

// storeName is the name under which a service manager keeps the socket; empty if it cannot have one.
func (r *socketRef) storeName() string { return sdnotify.StoreName(r.kind, r.network, r.addr) }

// storable returns a descriptor of a socket that may be sent away, or nil.
func (r *socketRef) storable() *os.File {
	if r.fd < 0 || r.network == sdnotify.Network {
		return nil // what a socket unit passed is kept by whoever passed it
	}
	fd, err := sys.DupFD(r.fd)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), r.addr)
}

func (r *socketRef) drop(unlink bool) {
	if unlink && r.path != "" {
		os.Remove(r.path)
	}
	if r.fd >= 0 {
		sys.CloseFD(r.fd)
		r.fd = -1
		coverFDs(r.inode, r.set.inherited[r.inode])
	}
}

// releaseAll drops what is left.
func (s *listeners) releaseAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		r.drop(s.unlink)
	}
	s.all = nil
}

// failed notes the first socket that could not be opened, for the reason that a candidate gives.
func (s *listeners) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// firstFailure returns the first error that failed has noted.
func (s *listeners) firstFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// setDispatch makes Accept ask fn about every connection; nil: all are this process's.
func (s *listeners) setDispatch(fn dispatch) {
	if fn == nil {
		s.dispatch.Store(nil)
	} else {
		s.dispatch.Store(&fn)
	}
}

// unlinkOnClose says whether closing a unix listener removes its path: nobody else serves on it.
func (s *listeners) unlinkOnClose(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlink = on
}

// keepClosed says whether a listener that the program closes is still handed on.
func (s *listeners) keepClosed(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = on
}

// follow calls each for every open socket, and from then on changed for those that are opened and closed. It holds the
// lock of the set meanwhile. nil: nobody follows.
func (s *listeners) follow(each func(*socketRef), changed func(r *socketRef, open bool)) {
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

func (s *listeners) refs() []*socketRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*socketRef(nil), s.all...)
}

// open lets the program accept, now and on what it opens later; on pinned listeners only if they are meant as well.
func (s *listeners) open(pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared, s.pinned = true, s.pinned || pinned
	for _, r := range s.all {
		if pinned || !r.pinned {
			r.gate.open()
		}
	}
}

// pause stops accepting, on pinned listeners only if they are meant as well. Connections wait in the kernel's queue for
// whoever accepts next.
func (s *listeners) pause(pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared, s.pinned = false, s.pinned && !pinned
	for _, r := range s.all {
		if pinned || !r.pinned {
			r.gate.shut()
		}
	}
}

// accepting waits until the program has called Accept on every listener, which shows that it is ready to serve.
func (s *listeners) accepting(ctx context.Context) error {
	for _, r := range s.refs() {
		if r.kind != "listener" {
			continue
		}
		select {
		case <-r.gate.waiting:
		case <-r.gate.closed:
			return fmt.Errorf("the listener %s %s was closed before anybody accepted on it", r.network, r.addr)
		case <-ctx.Done():
			return fmt.Errorf("nobody accepts on the listener %s %s: %w", r.network, r.addr, context.Cause(ctx))
		}
	}
	return nil
}
