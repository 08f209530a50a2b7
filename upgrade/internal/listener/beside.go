package listener

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A new version may open a TCP listener on a port where a received socket listens. For example, the new address is
// "0.0.0.0:80", and the received socket listens at "127.0.0.1:80". Or the addresses are equal, because the program opens one
// more listener with SO_REUSEPORT. If the new socket listened at once, the kernel would give it clients of the old process.
// These clients would have to wait until the commit, and would be lost without a commit. So the new socket is only bound before
// the commit, and listens from the commit on. Until the commit both sockets need SO_REUSEPORT. The functions in this file set
// the option.
//
// After the commit the old socket gets no new clients (see detach), so new clients come to the new socket. Accept of the new
// listener returns the connections in the old socket's queue.
//
// Sockets that this library has not opened are not changed, because they may belong to a socket unit.

// findBeside finds the neighbours of a new listener with the spot want. A neighbour is a listener that this library has opened
// in an older process, that overlaps with want, and that the program has not opened here yet. findBeside sets SO_REUSEPORT on
// the neighbours. It returns nil if there are no neighbours, and no open inherited listener overlaps with want either.
func findBeside(want spot, open []*Socket, from *supply) *neighbours {
	found := false
	for _, r := range open { // sockets opened by this process do not count: there the program itself must set SO_REUSEPORT
		at, ok := r.spot()
		found = found || ok && r.kind == "listener" && r.from == inherited && want.overlaps(at)
	}
	var b neighbours
	from.eachOwn(want, func(name wire.SocketName, at spot, f *os.File) {
		if name.Kind != "listener" || !want.overlaps(at) {
			return
		}
		found = true
		if want.covers(at) && want != at {
			b.covered = append(b.covered, name)
		}
		b.undo = append(b.undo, reusePort(f))
	})
	if !found {
		return nil
	}
	return &b
}

// bind binds a TCP listener at want, beside its neighbours on the port. The listener does not listen yet.
func (b *neighbours) bind(c net.ListenConfig, ref *Socket, want spot) (any, error) {
	control := c.Control
	c.Control = func(network, address string, raw syscall.RawConn) error {
		if control != nil {
			if err := control(network, address, raw); err != nil {
				return err
			}
		}
		return raw.Control(func(fd uintptr) { ref.shares = !setReusePort(int(fd), true) })
	}
	sock, err := bindTCP(c, want.at, want.both)
	if err != nil {
		b.takeBack()
		if errors.Is(err, syscall.EADDRINUSE) {
			err = &besideError{err}
		}
		return nil, err
	}
	ref.beside = b
	return sock, nil
}

// conflicts reports whether a received socket (the argument came) overlaps with a socket that this process has only bound.
// There is no conflict if the program has set SO_REUSEPORT on the bound socket.
func (s *sockets) conflicts(came *received) bool {
	s.mu.Lock()
	bound := s.bound
	s.mu.Unlock()
	if came.file == nil || !bound {
		return false
	}
	at, ok := came.spot()
	return ok && slices.ContainsFunc(s.near(at), func(r *Socket) bool {
		p, _ := r.spot()
		return r.beside != nil && !r.shares && p.overlaps(at)
	})
}

// besideError explains why a socket could not be bound beside the sockets on the port.
type besideError struct{ err error }

func (e *besideError) Error() string {
	return e.err.Error() + ": the old process has a socket on this port that was opened by another user, as before root's rights were dropped, or somebody else has one: if nobody else has, stop the service and start it"
}

func (e *besideError) Unwrap() error { return e.err }

// reusePort sets SO_REUSEPORT on a socket. The function undo removes the option again, unless the socket had the option before
// the call of reusePort.
func reusePort(c syscall.Conn) (undo func()) {
	set := false
	control(c, func(fd int) { set = setReusePort(fd, true) }) // if this fails, bind returns EADDRINUSE later
	return func() {
		if set {
			control(c, func(fd int) { setReusePort(fd, false) }) // control does nothing if the socket is closed
		}
	}
}

// covers reports whether one of the open sockets will get all clients of a received socket when the received socket is closed.
func (s *sockets) covers(f *received) bool {
	at, ok := f.spot()
	return ok && at.path == "" && slices.ContainsFunc(s.near(at), func(r *Socket) bool {
		p, _ := r.spot()
		return r.kind == f.name.Kind && (p == at || p.covers(at) && f.own)
	})
}

// sharesSpot reports whether one of the open listeners has the same spot as another socket. If so, the kernel distributes the
// new clients to both sockets.
func (s *sockets) sharesSpot(other spot) bool {
	return slices.ContainsFunc(s.near(other), func(r *Socket) bool {
		p, _ := r.spot()
		return r.kind == "listener" && p == other
	})
}
