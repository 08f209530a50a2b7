package listener

import (
	"os"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// supply is where sockets come from that other processes have opened.
type supply struct {
	fds    Inheritor            // nil where upgrades are not supported
	passed *sdnotify.Activation // what the service manager has passed
}

func (s *supply) supported() bool { return s.fds != nil }

// received returns what has come in the control socket; nil if sockets come as files at exec.
func (s *supply) received() *Received {
	r, _ := s.fds.(*Received)
	return r
}

// hasCome reports whether sockets have come from elsewhere.
func (s *supply) hasCome() bool { return s.received() != nil || s.passed.HasKept() }

// find returns the received socket of a name, or the same socket under another name; without either the name only.
func (s *supply) find(name wire.SocketName) received {
	if r := s.received(); r != nil {
		return r.find(name)
	}
	return received{name: name}
}

// descentOf is the descent of a socket that a service manager has passed.
func (s *supply) descentOf(inode uint64) descent {
	if s.passed.IsUnit(inode) {
		return foreign
	}
	return inherited
}

// eachOwn calls each with the sockets of this library that were not opened here, from an older generation or kept by the
// service manager.
func (s *supply) eachOwn(each func(name wire.SocketName, at spot, f *os.File)) {
	s.passed.EachKept(func(f *os.File) {
		if name, ok := describe(int(sys.FD(f))); ok {
			if at, ok := spotted(name, f); ok {
				each(name, at, f)
			}
		}
	})
	if r := s.received(); r != nil {
		r.eachOwn(each)
	}
}

// takeKept takes a socket that was kept for an earlier process under another spelling of its name, and returns that spelling.
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
