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

// Open lets the program accept, now and on sockets that it opens later; on pinned listeners only with pinned.
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

// Pause stops accepting, on pinned listeners only with pinned. Connections wait in the kernel's queue for the process that
// accepts next.
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

// End makes Accept and ReadFrom of the open sockets return net.ErrClosed, for a program that does not end although it should.
// The sockets stay open, and can be handed on.
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

// Begin makes every socket late that is opened from now on.
func (s *sockets) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age = max(s.age, prepared)
}

// Beside reports whether a socket waits for the commit to listen.
func (s *sockets) Beside() bool { return anyBeside(s.Refs()) }

// BeginListening makes the sockets listen that are only bound. It is to be called with the commit.
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

// serves reports whether this process has begun to serve. From then on a socket is opened as in any program.
func (s *sockets) serves() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.age == serving
}

// ListenAgain gives the queues of inherited sockets the length that the kernel allows by now. No other process may serve on
// them at that time. Sockets of a service manager keep the manager's length.
func (s *sockets) ListenAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.from == inherited && r.kind == "listener" && r.fd >= 0 {
			listenAgain(r.fd, r.Network)
		}
	}
}

// NoteReusePort notes which sockets share their port by the program's wish, before a candidate can change the option.
func (s *sockets) NoteReusePort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		r.shares = r.fd >= 0 && hasReusePort(r.fd)
	}
}

// TakeReusePortBack ends what a candidate has set on the sockets of this process and has not taken back.
func (s *sockets) TakeReusePortBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.from.own() && !r.shares && r.fd >= 0 && r.kind == "listener" {
			setReusePort(r.fd, false)
		}
	}
}
