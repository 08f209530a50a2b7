package listener

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// doors decides which sockets may accept.
type doors struct {
	shared bool // sockets that are not pinned may accept
	pinned bool // pinned sockets may accept
	held   int  // how many calls of Hold are not resumed yet; if it is not 0, no socket may accept
}

// admit reports whether the gate of a socket should be open.
func (d doors) admit(r *Socket) bool {
	return d.held == 0 && r.beside == nil && (r.pinned && d.pinned || !r.pinned && d.shared)
}

// Open lets the program accept on all sockets that are not pinned, also on sockets that it opens later. If pinned is true, the
// program may also accept on the pinned sockets: pinned listeners and all datagram sockets.
func (s *sockets) Open(pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.shared, s.doors.pinned = true, s.doors.pinned || pinned
	for r := range s.all.each() {
		if (pinned || !r.pinned) && s.doors.admit(r) {
			r.gate.open()
		}
	}
}

// Pause stops the accepting on the sockets that are not pinned. If pinned is true, it also stops the accepting on the pinned
// sockets. New connections wait in the kernel's queue for the process that accepts next.
func (s *sockets) Pause(pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.shared, s.doors.pinned = false, s.doors.pinned && !pinned
	for r := range s.all.each() {
		if pinned || !r.pinned {
			r.gate.shut()
		}
	}
}

// Hold stops the accepting on all sockets until resume is called. If Open is called meanwhile, it takes effect at the resume. A
// reader that is inside the system call when Hold is called may still get a connection.
func (s *sockets) Hold() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.held++
	for r := range s.all.each() {
		r.gate.shut()
	}
	return s.resume
}

// resume ends one call of Hold. After the last resume, the sockets that may accept do so again.
func (s *sockets) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.held--
	for r := range s.all.each() {
		if s.doors.admit(r) {
			r.gate.open()
		}
	}
}

// End makes Accept and ReadFrom of the open sockets return net.ErrClosed. It is called for a program that should stop its
// server and perhaps does not. The sockets stay open, and can be passed to another process.
func (s *sockets) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors.shared, s.doors.pinned = false, false
	for r := range s.all.each() {
		r.gate.end()
	}
}

// Accepting waits until the program has called Accept on every listener, because a program that does so is ready to serve. It
// returns an error if ctx ends earlier or the program closes a listener.
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

// Begin notes that the process is prepared. A socket that is opened after Begin is late.
func (s *sockets) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age = max(s.age, prepared)
}

// Beside reports whether at least one socket is only bound, and will not listen before the commit.
func (s *sockets) Beside() bool {
	return slices.ContainsFunc(s.Refs(), func(r *Socket) bool { return r.beside != nil })
}

// BeginListening calls listen(2) for the sockets that are only bound. It is called at the commit.
func (s *sockets) BeginListening() (all error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age = serving
	for r := range s.all.each() {
		all = errors.Join(all, r.listen())
	}
	for r := range s.all.each() { // after the first loop, because neighbours need SO_REUSEPORT until all sockets listen
		r.endBeside()
	}
	s.bound = false
	return all
}

// serves reports whether BeginListening was called. From then on, new sockets listen at once.
func (s *sockets) serves() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.age == serving
}

// ListenAgain gives the queues of inherited listeners the greatest length that the kernel allows now. It must be called only
// when no other process serves on these listeners. It leaves out the listeners of a socket unit: the service manager has set
// the length of their queues.
func (s *sockets) ListenAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.all.each() {
		if r.from == inherited && r.kind == "listener" && r.fd >= 0 {
			listenAgain(r.fd, r.Network)
		}
	}
}

// NoteReusePort notes on which sockets SO_REUSEPORT is set. It is called before a candidate is started, because the candidate
// may set the option on other sockets too.
func (s *sockets) NoteReusePort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.all.each() {
		r.shares = r.fd >= 0 && hasReusePort(r.fd)
	}
}

// TakeReusePortBack removes SO_REUSEPORT from the listeners on which NoteReusePort has not found the option: a candidate that
// has died may have set the option there. TakeReusePortBack changes only listeners that this library has opened.
func (s *sockets) TakeReusePortBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.all.each() {
		if r.from.own() && !r.shares && r.fd >= 0 && r.kind == "listener" {
			setReusePort(r.fd, false)
		}
	}
}
