package listener

import (
	"os"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// supply has the sockets of other processes that this process may take over.
type supply struct {
	fds    Inheritor            // nil on platforms where upgrades are not supported
	passed *sdnotify.Activation // the sockets that the service manager has passed
}

func (s *supply) supported() bool { return s.fds != nil }

// received returns the sockets that came over the control socket. It returns nil if sockets are passed as files at exec.
func (s *supply) received() *Received {
	r, _ := s.fds.(*Received)
	return r
}

// hasCome reports whether this process may have got sockets that this library has opened in an older process.
func (s *supply) hasCome() bool { return s.received() != nil || s.passed.HasKept() }

// find returns the received socket with the given name, or else a received socket with the same spot (see spot.go) under
// another name. If there is no such socket, the result has only the name.
func (s *supply) find(name wire.SocketName) *received {
	if r := s.received(); r != nil {
		return r.find(name)
	}
	return &received{name: name}
}

// descentOf returns the descent of a socket that a service manager has passed.
func (s *supply) descentOf(inode uint64) descent {
	if s.passed.IsUnit(inode) {
		return foreign
	}
	return inherited
}

// eachOwn calls the function each with every unopened socket that comes from this library and may overlap with the given spot.
// Such sockets were kept by a service manager, or received from an older generation.
func (s *supply) eachOwn(want spot, each func(name wire.SocketName, at spot, f *os.File)) {
	s.passed.EachKept(func(f *os.File) {
		if name, ok := describe(int(sys.FD(f))); ok {
			if at, ok := spotted(name, f); ok {
				each(name, at, f)
			}
		}
	})
	if r := s.received(); r != nil {
		r.eachOwn(want, each)
	}
}

// takeKept takes a socket that a service manager has kept under another spelling of its address: its spot is the spot of the
// given name. kept is the name under which the manager has kept the socket. sock is nil if there is no such socket.
func (s *supply) takeKept(name wire.SocketName) (sock any, kept string, err error) {
	if !s.supported() || !s.passed.HasKept() {
		return nil, "", nil
	}
	want, ok := spotOf(name)
	if !ok {
		return nil, "", nil
	}
	return s.passed.TakeKept(name.Kind, func(f *os.File) bool {
		is, ok := describe(int(sys.FD(f)))
		if !ok || order(f.Name()) != order(name.Addr) {
			return false
		}
		at, ok := spotted(is, f)
		return ok && at == want
	})
}
