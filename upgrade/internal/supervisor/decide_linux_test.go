//go:build linux

package supervisor

import (
	"testing"
	"time"
)

// heir is a generation that lives, so that it may become the service.
func (s *supervisor) heir(t *testing.T) *generation {
	t.Helper()
	g, _ := s.generationOf(t, childOf(t))
	return g
}

// After a crash a process that may become the service by itself is waited for, and killed when it has not by its time; only
// when there is none, a new one is started. Nothing is decided twice.
func TestHeirsAreWaitedFor(t *testing.T) {
	s := idle(t)
	if s.decide(); !s.restartAt.IsZero() || !s.heirsDue.IsZero() {
		t.Error("nothing has crashed, and something is due")
	}
	s.crashed = &generation{ready: true, since: time.Now(), ended: time.Now()}
	s.outage.begin(time.Now())
	g := s.heir(t)
	begun := time.Now()
	s.decide()
	due := s.heirsDue
	if !s.restartAt.IsZero() || due.Before(begun.Add(s.opts.Timeout)) {
		t.Errorf("restart at %v, the heir has until %v", s.restartAt, due)
	}
	if s.decide(); s.heirsDue != due || g.dead() {
		t.Errorf("the heir has until %v, want %v; dead: %v", s.heirsDue, due, g.dead())
	}
	s.heirsDue = time.Now().Add(-time.Millisecond)
	s.decide()
	if died := <-s.deaths; died != g || !s.restartAt.IsZero() || !s.heirsDue.After(time.Now()) {
		t.Errorf("another one has died, or a restart is due at %v", s.restartAt)
	}
	if s.decide(); s.restartAt.IsZero() || !s.heirsDue.IsZero() {
		t.Errorf("nobody is left: restart at %v, an heir has until %v", s.restartAt, s.heirsDue)
	}
	at := s.restartAt
	if s.decide(); s.restartAt != at {
		t.Error("it is decided again")
	}
}

// Heirs are the generations that live and have not handed over, announced candidates among them.
func TestHeirsAreTheLivingThatHaveNotHandedOver(t *testing.T) {
	for name, c := range map[string]struct {
		change func(g *generation)
		want   int
	}{
		"lives":            {func(*generation) {}, 1},
		"has handed over":  {func(g *generation) { g.left = true }, 0},
		"was the main one": {func(g *generation) { g.isMain = true }, 1},
		"is dead":          {func(g *generation) { g.kill(); _ = g.proc.Wait() }, 0},
	} {
		s := idle(t)
		c.change(s.heir(t))
		if got := s.heirs(); len(got) != c.want {
			t.Errorf("%s: %d heirs, want %d", name, len(got), c.want)
		}
	}
}

// A candidate that has ended is the main generation only if the one that has announced it has handed over or has ended: a later
// word of that one decides.
func TestEndedCandidateDoesNotReplaceItsParent(t *testing.T) {
	s := idle(t)
	m, c := s.heir(t), s.heir(t)
	m.number, m.ready, m.isMain, c.parent, s.main = 5, true, true, m, m
	c.kill()
	_ = c.proc.Wait()
	if got := s.judge(c, 6); got != late {
		t.Errorf("verdict %d, want %d", got, late)
	}
	m.left = true
	if got := s.judge(c, 6); got != leads {
		t.Errorf("its parent has handed over: verdict %d, want %d", got, leads)
	}
	m.left = false
	m.kill()
	_ = m.proc.Wait()
	if got := s.judge(c, 6); got != leads {
		t.Errorf("its parent has ended: verdict %d, want %d", got, leads)
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
		"a restart":      {func(s *supervisor) { s.restartAt, s.heirsDue = now.Add(time.Minute), now.Add(2*time.Minute) }, time.Minute},
		"the watchdog": {func(s *supervisor) {
			s.main = &generation{due: now.Add(3 * time.Minute), silent: now.Add(2 * time.Minute)}
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
