package listener

import (
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A new version may open a TCP listener on a port where a received socket listens, at an overlapping address: "0.0.0.0:80" in
// place of "127.0.0.1:80" or the reverse, or one more listener with the same address and SO_REUSEPORT. If the new socket
// listened at once, the kernel would give it clients of the old process. These clients would wait until the commit, and would
// be lost if the commit never comes. So the new socket is only bound, and listens from the commit on. Until then both sockets
// need SO_REUSEPORT, which is set here.
//
// After the commit the old socket gets no new clients (see detach), so they come to the new socket. The connections in the old
// socket's queue are returned by Accept of the new listener.
//
// Sockets that a service manager may also have are left as they are.

// findBeside sets SO_REUSEPORT on the received sockets whose address overlaps with that of a new listener at want. It returns
// nil if neither a received socket nor an inherited open listener overlaps.
func findBeside(want spot, open []*Socket, from *supply) *neighbours {
	found := false
	for _, r := range open { // sockets that this version has created share the port only if the program says so
		at, ok := r.spot()
		found = found || ok && r.kind == "listener" && r.from == inherited && want.overlaps(at)
	}
	var b neighbours
	from.eachOwn(func(name wire.SocketName, at spot, f *os.File) {
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

// bind makes a TCP listener that is bound and does not listen yet, beside its neighbours on the port.
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

// conflicts reports whether a received socket cannot be open together with a socket of this process that is bound beside it.
func conflicts(came received, open []*Socket) bool {
	if came.file == nil || !anyBeside(open) {
		return false
	}
	at, ok := spotted(came.name, came.file)
	for _, r := range open {
		if p, is := r.spot(); ok && is && r.beside != nil && !r.shares && p.overlaps(at) {
			return true
		}
	}
	return false
}

// anyBeside reports whether one of the sockets is bound and does not listen yet.
func anyBeside(open []*Socket) bool {
	for _, r := range open {
		if r.beside != nil {
			return true
		}
	}
	return false
}

// besideError explains why a socket could not be bound beside the sockets on the port.
type besideError struct{ err error }

func (e *besideError) Error() string {
	return e.err.Error() + ": the old process has a socket on this port that was opened by another user, as before root's rights were dropped, or somebody else has one: if nobody else has, stop the service and start it"
}

func (e *besideError) Unwrap() error { return e.err }

// reusePort sets SO_REUSEPORT on a socket. undo removes the option again, if reusePort has set it.
func reusePort(c syscall.Conn) (undo func()) {
	set := false
	control(c, func(fd int) { set = setReusePort(fd, true) }) // if this fails, bind returns EADDRINUSE
	return func() {
		if set {
			control(c, func(fd int) { setReusePort(fd, false) }) // does nothing if the socket is closed
		}
	}
}

// covered reports whether an open socket will get all clients of a received socket, after the received socket is closed.
func covered(f received, open []*Socket) bool {
	at, ok := spotted(f.name, f.file)
	if !ok || at.path != "" {
		return false
	}
	for _, r := range open {
		if p, ok := r.spot(); ok && r.kind == f.name.Kind && (p == at || p.covers(at) && f.own) {
			return true
		}
	}
	return false
}

// sharesSpot reports whether an open listener has exactly this address: then the kernel distributes clients to both sockets.
func sharesSpot(at spot, open []*Socket) bool {
	for _, r := range open {
		if p, ok := r.spot(); ok && r.kind == "listener" && p == at {
			return true
		}
	}
	return false
}
