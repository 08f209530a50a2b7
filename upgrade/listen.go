package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

// listeners is every listening socket of the process. A child gets those that are open at the time of the upgrade.
type listeners struct {
	tf        *tableflip.Upgrader // nil where it is not supported
	inherited map[uint64][]int    // the descriptors that tableflip inherited, by inode

	mu    sync.Mutex
	count map[[2]string]int
	all   []*socketRef
	err   error
	keep  bool // a closed listener is still handed on (an aborted candidate, until it ends)
	// unlink: closing a unix listener removes its path, as nobody else serves on it.
	unlink bool
}

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
	gate          *gate
}

// gate holds back Accept and ReadFrom while another generation is the one to serve. It is opened and shut by the
// owner; a reader that is inside the system call when it shuts is called back by a deadline.
type gate struct {
	deadline func(time.Time) error

	mu      sync.Mutex
	opened  chan struct{} // closed while the gate is open
	shut    int           // how often it was shut
	program time.Time     // the deadline that the program has set
	changed chan struct{} // closed when that changes

	waiting     chan struct{} // closed when the program has come to the gate for the first time
	waitingOnce sync.Once
	closed      chan struct{}
	closedOnce  sync.Once
}

func newGate(deadline func(time.Time) error) *gate {
	return &gate{
		deadline: deadline, opened: make(chan struct{}), changed: make(chan struct{}),
		waiting: make(chan struct{}), closed: make(chan struct{}),
	}
}

// through runs op whenever the gate is open, until op ends for a reason of its own.
func (g *gate) through(op func() error) error {
	g.waitingOnce.Do(func() { close(g.waiting) })
	for {
		shut, err := g.pass()
		if err != nil {
			return err
		}
		err = op()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !g.shutSince(shut) {
			return err
		}
	}
}

// pass waits until the gate is open, and tells how often it has been shut before. The program's deadline counts here too.
func (g *gate) pass() (shut int, err error) {
	for {
		g.mu.Lock()
		opened, changed, program, shut := g.opened, g.changed, g.program, g.shut
		g.mu.Unlock()
		var late <-chan time.Time
		if !program.IsZero() {
			timer := time.NewTimer(time.Until(program))
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-opened:
			return shut, nil
		case <-g.closed:
			return 0, net.ErrClosed
		case <-late:
			return 0, os.ErrDeadlineExceeded
		case <-changed:
		}
	}
}

func (g *gate) shutSince(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut != n
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.isOpen() {
		_ = g.deadline(g.program)
		close(g.opened)
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen() {
		g.opened = make(chan struct{})
		g.shut++
		_ = g.deadline(time.Unix(1, 0))
	}
}

func (g *gate) isOpen() bool {
	select {
	case <-g.opened:
		return true
	default:
		return false
	}
}

func (g *gate) setDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.program = t
	close(g.changed)
	g.changed = make(chan struct{})
	if !g.isOpen() {
		return nil
	}
	return g.deadline(t)
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
	err = l.ref.gate.through(func() error {
		c, err = l.bare.Accept()
		return err
	})
	return c, err
}

func (l *listener) Close() error {
	l.ref.gate.closedOnce.Do(func() { close(l.ref.gate.closed) })
	err := l.bare.Close()
	l.ref.set.release(l.ref)
	return err
}

func (l *listener) Addr() net.Addr                        { return l.bare.Addr() }
func (l *listener) SetDeadline(t time.Time) error         { return l.ref.gate.setDeadline(t) }
func (l *listener) SyscallConn() (syscall.RawConn, error) { return l.bare.SyscallConn() }

func (s *listeners) supported() bool { return s.tf != nil }

func setUnlink(v any, on bool) {
	if u, ok := v.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(on)
	}
}

// listen inherits the listener that an older generation opened under the same network and address, or opens one.
func (s *listeners) listen(network, addr string, pinned bool) (net.Listener, error) {
	key := s.key(network, addr, pinned)
	var ln net.Listener
	var err error
	if s.supported() {
		if ln, err = s.tf.Fds.Listener(network, key); err != nil {
			return nil, fmt.Errorf("upgrade: inherit %s %s: %w", network, addr, err)
		}
	}
	if ln == nil {
		if ln, err = new(net.ListenConfig).Listen(context.Background(), network, addr); err != nil {
			return nil, fmt.Errorf("upgrade: listen %s %s: %w", network, addr, err)
		}
	}
	setUnlink(ln, false)
	bare, ok := ln.(bareListener)
	if !ok {
		ln.Close()
		return nil, fmt.Errorf("upgrade: listen %s %s: a %T cannot be handed on", network, addr, ln)
	}
	ref := &socketRef{set: s, kind: "listener", network: network, addr: key, pinned: pinned, gate: newGate(bare.SetDeadline)}
	if ua, ok := ln.Addr().(*net.UnixAddr); ok {
		ref.path = ua.Name
	}
	if err := s.add(ref, bare); err != nil {
		ln.Close()
		return nil, err
	}
	return &listener{bare: bare, ref: ref}, nil
}

// key tells listeners of the same network and address apart: two of ":0" are two ports. The first one has the plain
// address, as tableflip itself would name it. A path cannot be bound twice, and tableflip removes the path of a socket
// that a new process does not claim, so a path stays as it is.
func (s *listeners) key(network, addr string, pinned bool) string {
	if strings.HasPrefix(network, "unix") {
		return addr
	}
	if pinned {
		addr += "#pinned"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := [2]string{network, addr}
	s.count[id]++
	if n := s.count[id]; n > 1 {
		return addr + "#" + strconv.Itoa(n)
	}
	return addr
}

func (s *listeners) add(ref *socketRef, c syscall.Conn) error {
	ref.fd = -1
	if s.supported() {
		fd, inode, err := duplicate(c)
		if err != nil {
			return fmt.Errorf("upgrade: listen %s %s: %w", ref.network, ref.addr, err)
		}
		ref.fd, ref.inode = fd, inode
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, ref)
	return nil
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
			ref.drop(s.unlink)
			return
		}
	}
}

func (r *socketRef) drop(unlink bool) {
	if unlink && r.path != "" && !strings.HasPrefix(r.path, "@") {
		os.Remove(r.path)
	}
	if r.fd >= 0 {
		closeFD(r.fd)
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

func (s *listeners) set(fn func(s *listeners)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

func (s *listeners) refs() []*socketRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*socketRef(nil), s.all...)
}

// open lets the program accept; pinned listeners only if they are meant as well.
func (s *listeners) open(pinned bool) {
	for _, r := range s.refs() {
		if pinned || !r.pinned {
			r.gate.open()
		}
	}
}

// pause stops accepting. Connections wait in the kernel's queue for whoever accepts next.
func (s *listeners) pause() {
	for _, r := range s.refs() {
		r.gate.close()
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
