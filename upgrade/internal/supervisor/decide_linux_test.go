//go:build linux

package supervisor

import (
	"testing"
	"time"
)

// heir returns a candidate that lives and is committed, so it may become the service without a further order.
func (s *supervisor) heir(t *testing.T) *proc {
	t.Helper()
	g, _ := s.generationOf(t, childOf(t))
	g.state = committed
	return g
}

// After a crash the supervisor waits for an heir. If the heir does not become the service in time, the supervisor kills the
// heir. A new process is started only if there is no heir. A second call of decide changes nothing.
func TestHeirsAreWaitedFor(t *testing.T) {
	s := idle(t)
	if s.settle(); !s.recovery.restartAt.IsZero() || !s.recovery.heirsDue.IsZero() {
		t.Error("nothing has crashed, and something is due")
	}
	s.recovery.crashed = &proc{led: time.Now(), lostAt: time.Now()}
	s.recovery.outage.begin(time.Now())
	g := s.heir(t)
	begun := time.Now()
	s.settle()
	due := s.recovery.heirsDue
	if !s.recovery.restartAt.IsZero() || due.Before(begun.Add(s.opts.Timeout)) {
		t.Errorf("restart at %v, the heir has until %v", s.recovery.restartAt, due)
	}
	if s.settle(); s.recovery.heirsDue != due || g.dead() {
		t.Errorf("the heir has until %v, want %v; dead: %v", s.recovery.heirsDue, due, g.dead())
	}
	s.recovery.heirsDue = time.Now().Add(-time.Millisecond)
	s.settle()
	if died := <-s.procs.deaths; died != g || !s.recovery.restartAt.IsZero() || !s.recovery.heirsDue.After(time.Now()) {
		t.Errorf("another one has died, or a restart is due at %v", s.recovery.restartAt)
	}
	if s.settle(); s.recovery.restartAt.IsZero() || !s.recovery.heirsDue.IsZero() {
		t.Errorf("no heir is left: restart at %v, an heir has until %v", s.recovery.restartAt, s.recovery.heirsDue)
	}
	at := s.recovery.restartAt
	if s.settle(); s.recovery.restartAt != at {
		t.Error("it is decided again")
	}
}

// Heirs are the living generations that have not handed over, and the candidates that were announced and committed.
func TestHeirsAreTheLivingThatHaveNotHandedOver(t *testing.T) {
	for name, c := range map[string]struct {
		change func(g *proc)
		want   int
	}{
		"lives":            {func(*proc) {}, 1},
		"has handed over":  {func(g *proc) { g.state = draining }, 0},
		"was the main one": {func(g *proc) { g.state = superseded }, 1},
		"is dead":          {func(g *proc) { g.kill(); _ = g.handle.Wait() }, 0},
	} {
		s := idle(t)
		c.change(s.heir(t))
		if got := s.procs.heirs(); len(got) != c.want {
			t.Errorf("%s: %d heirs, want %d", name, len(got), c.want)
		}
	}
}

// READY of a candidate that has ended makes it the main generation only if its parent has handed over or has ended. Otherwise a
// later message of the parent decides.
func TestEndedCandidateDoesNotReplaceItsParent(t *testing.T) {
	s := idle(t)
	m, c := s.heir(t), s.heir(t)
	s.leads(m)
	c.parent = m
	c.kill()
	_ = c.handle.Wait()
	if got := s.judge(c, 6); got != onLate {
		t.Errorf("%v, want %v", got, onLate)
	}
	m.state = draining
	if got := s.judge(c, 6); got != onLeads {
		t.Errorf("its parent has handed over: %v, want %v", got, onLeads)
	}
	m.state = serving
	m.kill()
	_ = m.handle.Wait()
	if got := s.judge(c, 6); got != onLeads {
		t.Errorf("its parent has ended: %v, want %v", got, onLeads)
	}
}

// The supervisor sleeps until the first deadline, and not at all if a deadline has passed.
func TestPauseEndsWithTheFirstDueTime(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		set  func(s *supervisor)
		want time.Duration
	}{
		"nothing is due": {func(*supervisor) {}, time.Hour},
		"a restart": {func(s *supervisor) {
			s.recovery.restartAt, s.recovery.heirsDue = now.Add(time.Minute), now.Add(2*time.Minute)
		}, time.Minute},
		"the watchdog": {func(s *supervisor) {
			s.main = &proc{serveBy: now.Add(3 * time.Minute), aliveBy: now.Add(2 * time.Minute)}
		}, 2 * time.Minute},
		"the end":           {func(s *supervisor) { s.endDue = now.Add(time.Second) }, time.Second},
		"something is late": {func(s *supervisor) { s.endDue = now.Add(-time.Second) }, 0},
	} {
		s := idle(t)
		c.set(s)
		if got := s.pause(); got > c.want || got < max(0, c.want-10*time.Second) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
