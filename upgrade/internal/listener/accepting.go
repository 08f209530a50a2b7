package listener

import (
	"context"
	"errors"
	"fmt"
)

// doors are the sockets that may accept.
type doors struct {
	shared, pinned bool // listeners, and pinned ones with the sockets for datagrams
	held           int  // how often Hold was called and not ended: nothing accepts meanwhile
}

// admit reports whether the gate of a socket is to be open.
func (d doors) admit(r *Socket) bool {
	return d.held == 0 && r.beside == nil && (r.pinned && d.pinned || !r.pinned && d.shared)
}

// Open lets the program accept, now and on what it opens later; on pinned listeners only if they are meant as well.
func (s *sockets) Open(pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.shared, s.doors.pinned = true, s.doors.pinned || pinned
	for _, r := range s.all {
		if (pinned || !r.pinned) && s.doors.admit(r) {
			r.gate.open()
		}
	}
}

// Pause stops accepting, on pinned listeners only if they are meant as well. Connections wait in the kernel's queue for
// the process that accepts next.
func (s *sockets) Pause(pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.shared, s.doors.pinned = false, s.doors.pinned && !pinned
	for _, r := range s.all {
		if pinned || !r.pinned {
			r.gate.shut()
		}
	}
}

// Hold stops accepting until resume is called, whatever Open and Pause say meanwhile. A reader that is inside the system call
// may still get a connection.
func (s *sockets) Hold() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.held++
	for _, r := range s.all {
		r.gate.shut()
	}
	return s.resume
}

func (s *sockets) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.held--
	for _, r := range s.all {
		if s.doors.admit(r) {
			r.gate.open()
		}
	}
}

// End makes Accept and ReadFrom of the open sockets return net.ErrClosed, for a program that goes on although it was told to
// finish. The sockets stay open, and can be handed on.
func (s *sockets) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.shared, s.doors.pinned = false, false
	for _, r := range s.all {
		r.gate.end()
	}
}

// Accepting waits until the program has called Accept on every listener, which shows that the program is ready to serve.
func (s *sockets) Accepting(ctx context.Context) error {
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

// Begin makes what is opened from now on late.
func (s *sockets) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age = max(s.age, prepared)
}

// Beside reports whether a socket waits for the commit to listen.
func (s *sockets) Beside() bool { return anyBeside(s.Refs()) }

// BeginListening makes the sockets listen that wait for the commit. To be called with the commit.
func (s *sockets) BeginListening() (all error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age = serving
	for _, r := range s.all {
		all = errors.Join(all, r.listen())
	}
	for _, r := range s.all { // when all listen: two may need the same one to share its port
		r.endBeside()
	}
	return all
}

// serves reports whether this process has begun to serve: what is opened from then on is opened as anywhere.
func (s *sockets) serves() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.age == serving
}

// ListenAgain gives the queues of sockets that were opened by an older process the length that the kernel allows by now. To be called
// when no other process serves on them. Sockets of a service manager have the length that the manager says.
func (s *sockets) ListenAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.from == inherited && r.kind == "listener" && r.fd >= 0 {
			listenAgain(r.fd, r.Network)
		}
	}
}

// NoteReusePort notes which sockets share their port by the program's wish, before a candidate exists that may change that.
func (s *sockets) NoteReusePort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		r.shares = r.fd >= 0 && hasReusePort(r.fd)
	}
}

// TakeReusePortBack ends what a candidate that is gone has set on the sockets of this process.
func (s *sockets) TakeReusePortBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.from.own() && !r.shares && r.fd >= 0 && r.kind == "listener" {
			setReusePort(r.fd, false)
		}
	}
}
