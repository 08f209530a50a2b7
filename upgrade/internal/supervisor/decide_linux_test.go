//go:build linux

package supervisor

import (
	"testing"
	"time"
)

// heir is a candidate that lives and was committed, so that it may become the service.
func (s *supervisor) heir(t *testing.T) *proc {
	t.Helper()
	g, _ := s.generationOf(t, childOf(t))
	g.state = committed
	return g
}

// After a crash a process that may become the service by itself is waited for, and killed when it has not by its time; only
// when there is none, a new one is started. Nothing is decided twice.
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
		t.Errorf("nobody is left: restart at %v, an heir has until %v", s.recovery.restartAt, s.recovery.heirsDue)
	}
	at := s.recovery.restartAt
	if s.settle(); s.recovery.restartAt != at {
		t.Error("it is decided again")
	}
}

// Heirs are the generations that live and have not handed over, announced candidates among them.
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

// A candidate that has ended is the main generation only if the one that has announced it has handed over or has ended: a later
// word of that one decides.
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

// The supervisor sleeps until the first of the times that are due, and never into the past.
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
