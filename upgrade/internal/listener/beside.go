package listener

import (
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A socket of TCP beside one that has come, on the same port: "0.0.0.0:80" in place of "127.0.0.1:80" and the way back, or one more
// listener that shares an address by SO_REUSEPORT. If the new socket listened at once, the kernel would give it clients of the process
// that serves, who would wait until the commit, and be lost if that never comes. So the new socket is bound only, and begins to listen
// with the commit. SO_REUSEPORT, which both need for that, is set for this time. After the commit the kernel is told that the old
// socket is for no device, so that its clients get to the new one, and what is in the old queue comes out of the new Accept.
//
// Nothing of this is done to a socket that a service manager may have as well.

// findBeside sets SO_REUSEPORT on the sockets that are in the way of a listener. It returns nil if there are none.
func findBeside(want spot, open []*Socket, from *supply) *neighbours {
	found := false
	for _, r := range open { // what this version has opened shares with the new socket only if the program says so
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

// bind binds a listener of TCP beside the others.
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

// conflicts reports whether a received socket cannot be open together with one bound beside it.
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

// anyBeside reports whether a socket is bound and does not listen yet.
func anyBeside(open []*Socket) bool {
	for _, r := range open {
		if r.beside != nil {
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

// reusePort sets SO_REUSEPORT, and returns a function that takes the option back.
func reusePort(c syscall.Conn) (undo func()) {
	set := false
	control(c, func(fd int) { set = setReusePort(fd, true) }) // without it the address stays in use
	return func() {
		if set {
			control(c, func(fd int) { setReusePort(fd, false) }) // one that is closed by now has none
		}
	}
}

// covered reports whether an open socket gets the clients of a received one, once no process listens there.
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

// sharesSpot reports whether an open listener has the very address of another one: the kernel shares clients out to both.
func sharesSpot(at spot, open []*Socket) bool {
	for _, r := range open {
		if p, ok := r.spot(); ok && r.kind == "listener" && p == at {
			return true
		}
	}
	return false
}
