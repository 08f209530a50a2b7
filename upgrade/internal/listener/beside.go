package listener

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A socket of TCP beside one that has come, on the same port: "0.0.0.0:80" in place of "127.0.0.1:80" and the way back, or one more
// listener that shares an address by SO_REUSEPORT. If it listened at once, the kernel would give it clients of the process that
// serves, who would wait until the commit, and be lost if that never comes. So it is bound only, and begins to listen with the commit.
// SO_REUSEPORT, which both need for that, is set for this time. After the commit the kernel is told that the old socket is for no
// device, so that its clients get to the new one, and what is in the old queue comes out of the new Accept.
//
// Nothing of this is done to a socket that a service manager may have as well.

const (
	// emptyFor is how long the queue of a socket that ends is emptied. A client that has begun to connect needs one round trip more.
	emptyFor = time.Second
	// shareFor is the same for one that shares its address: the kernel goes on to give it clients until the old process closes it.
	shareFor = time.Minute
)

// left calls each with the sockets of this library that have come, from an older generation or as kept ones, and were not opened.
func (s *Set) left(each func(name wire.SocketName, at spot, f *os.File)) {
	s.passed.EachKept(func(f *os.File) {
		if name, ok := describe(int(sys.FD(f))); ok {
			if at, ok := spotted(name, f); ok {
				each(name, at, f)
			}
		}
	})
	if r, ok := s.fds.(*Received); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		for i, f := range r.files {
			if at, ok := r.files[i].spot(); ok && f.own {
				each(f.name, at, f.file)
			}
		}
	}
}

// beside opens a socket for which others that have come are in the way, and returns the names of those that lose all their clients to
// it. Without such others it returns nothing.
func (s *Set) beside(ref *Socket) (sock any, covered []wire.SocketName, err error) {
	if ref.kind != "listener" || !strings.HasPrefix(ref.Network, "tcp") || !s.supported() || s.hasBegun() || !s.hasCome() {
		return nil, nil, nil
	}
	want, ok := spotOf(ref.socketName())
	if !ok {
		return nil, nil, nil
	}
	found := false
	for _, r := range s.Refs() { // what this version has opened shares with it only if the program says so
		at, ok := r.spot()
		found = found || ok && r.kind == ref.kind && r.own && !r.fresh && want.overlaps(at)
	}
	var undo []func()
	s.left(func(name wire.SocketName, at spot, f *os.File) {
		if name.Kind != ref.kind || !want.overlaps(at) {
			return
		}
		found = true
		if want.covers(at) && want != at {
			covered = append(covered, name)
		}
		undo = append(undo, reusePort(f))
	})
	if !found {
		return nil, nil, nil
	}
	back := func() {
		for _, u := range undo {
			u()
		}
	}
	c := s.config
	c.Control = func(network, address string, raw syscall.RawConn) error {
		if s.config.Control != nil {
			if err := s.config.Control(network, address, raw); err != nil {
				return err
			}
		}
		return raw.Control(func(fd uintptr) { ref.shares = !setReusePort(int(fd), true) })
	}
	if sock, err = bindTCP(c, ref.Network, want); err != nil {
		back()
		if errors.Is(err, syscall.EADDRINUSE) {
			err = &besideError{err}
		}
		return nil, nil, err
	}
	ref.begin = func() error { return beginListening(ref.fd) }
	ref.begun = func() {
		back()
		if !ref.shares {
			setReusePort(ref.fd, false)
		}
	}
	return sock, covered, nil
}

// hasBegun reports whether this process has been the one to serve: what is opened from then on is opened as anywhere.
func (s *Set) hasBegun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listens
}

// hasCome reports whether sockets have come from elsewhere.
func (s *Set) hasCome() bool {
	_, received := s.fds.(*Received)
	return received || s.passed.HasKept()
}

// conflicts reports whether a socket that has come cannot be open together with what this version has opened beside it.
func (s *Set) conflicts(came received) bool {
	if came.file == nil || !s.Beside() {
		return false
	}
	at, ok := spotted(came.name, came.file)
	for _, r := range s.Refs() {
		if p, is := r.spot(); ok && is && r.begin != nil && !r.shares && p.overlaps(at) {
			return true
		}
	}
	return false
}

// besideError says why two sockets cannot be bound at a time.
type besideError struct{ err error }

func (e *besideError) Error() string {
	return e.err.Error() + ": the old process has a socket on this port that was opened by another user, as before root's rights were dropped, or somebody else has one: if nobody else has, stop the service and start it"
}

func (e *besideError) Unwrap() error { return e.err }

// reusePort sets SO_REUSEPORT, and returns what takes it back.
func reusePort(c syscall.Conn) (undo func()) {
	set := false
	control(c, func(fd int) { set = setReusePort(fd, true) }) // without it the address stays in use
	return func() {
		if set {
			control(c, func(fd int) { setReusePort(fd, false) }) // one that is closed by now has none
		}
	}
}

func control(c syscall.Conn, do func(fd int)) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// Beside reports whether a socket waits for the commit to listen.
func (s *Set) Beside() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.begin != nil {
			return true
		}
	}
	return false
}

// BeginListening makes such sockets listen. To be called with the commit.
func (s *Set) BeginListening() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listens = true
	var all error
	for _, r := range s.all {
		if r.begin == nil {
			continue
		}
		if err := r.begin(); err != nil {
			all = errors.Join(all, &net.OpError{Op: "listen", Net: r.Network, Source: r.local, Err: err})
		}
	}
	for _, r := range s.all { // when all listen: two may need the same one to share its port
		r.endBeside()
	}
	return all
}

// endBeside takes SO_REUSEPORT back.
func (r *Socket) endBeside() {
	if r.begin != nil {
		r.begun()
		r.begin, r.begun = nil, nil
	}
}

// NoteReusePort notes which sockets share their port by the program's wish, before a candidate exists that may change that.
func (s *Set) NoteReusePort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		r.shares = r.fd >= 0 && hasReusePort(r.fd)
	}
}

// TakeReusePortBack ends what a candidate that is gone has set on the sockets of this process.
func (s *Set) TakeReusePortBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.own && !r.shares && r.fd >= 0 && r.kind == "listener" {
			setReusePort(r.fd, false)
		}
	}
}

// covered reports whether an open socket gets the clients of one that has come, once nobody listens there.
func (s *Set) covered(f received) bool {
	at, ok := spotted(f.name, f.file)
	if !ok || at.path != "" {
		return false
	}
	for _, r := range s.Refs() {
		if p, ok := r.spot(); ok && r.kind == f.name.Kind && (p == at || p.covers(at) && f.own) {
			return true
		}
	}
	return false
}

// Empty takes a listening socket that nobody has opened and that serves nobody else any more, and closes it when nothing is left in its
// queue: what is for an open listener as well comes out of that.
func (s *Set) Empty(f *os.File) {
	is, _ := describe(int(sys.FD(f)))
	at, known := spotted(is, f)
	ln, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		ln.Close()
		return
	}
	limit := emptyFor
	if known && s.shares(at) {
		limit = shareFor
	} else {
		detach(tcp)
	}
	_ = tcp.SetDeadline(time.Now().Add(limit)) // it never fails
	s.mu.Lock()
	s.ending = append(s.ending, tcp)
	s.mu.Unlock()
	s.emptying.Go(func() { // ends with the deadline
		defer tcp.Close()
		for {
			c, err := tcp.Accept()
			switch {
			case sys.TooManyFiles(err):
				<-time.After(5 * time.Millisecond) // until the deadline
			case err != nil:
				return
			default:
				if k, ok := s.Of(c); !ok || !s.takeIn(k, c) && !s.moveOn(c) {
					c.Close()
				}
			}
		}
	})
}

// shares reports whether an open listener has the very address of another one: the kernel shares clients out to both.
func (s *Set) shares(at spot) bool {
	for _, r := range s.Refs() {
		if p, ok := r.spot(); ok && r.kind == "listener" && p == at {
			return true
		}
	}
	return false
}

func (s *Set) takeIn(k Origin, c net.Conn) bool {
	r, err := s.Find(k.Network, k.Addr)
	if err != nil {
		return false
	}
	if t, ok := c.(*net.TCPConn); ok && r.keepAlive != nil {
		r.keepAlive(t)
	}
	return r.gate.give(c)
}

// EndEmptying takes what is in such queues, and ends that: this process is not the one to serve any more. It does not wait.
func (s *Set) EndEmptying() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.ending {
		_ = l.SetDeadline(time.Now().Add(10 * time.Millisecond)) // fails if it is closed
	}
	s.ending = nil
}
