package supervisor

import (
	"time"

	"golang.org/x/sys/unix"
)

// The end of the service, and what the supervisor does when a time is over.

// finish ends the service. Older generations may still finish what they have begun.
func (s *supervisor) finish(code int) {
	s.ending, s.code, s.main = true, code, nil
	s.store.close() // who connects now is to be refused, not to wait
	for _, g := range s.gens {
		if !g.left {
			g.send(unix.SIGTERM)
		}
	}
	s.endDue = time.Now().Add(s.opts.AbortGrace)
	if len(s.gens) > 0 {
		s.log.Info("upgrade: supervisor: waiting for generations that drain", "processes", len(s.gens), "AbortGrace", s.opts.AbortGrace)
	}
}

// pause is the time until something is due.
func (s *supervisor) pause() time.Duration {
	next := time.Now().Add(time.Hour)
	due := []time.Time{s.restartAt, s.heirsDue, s.endDue}
	if s.main != nil {
		due = append(due, s.main.due, s.main.silent)
	}
	for _, g := range s.gens {
		due = append(due, g.goneDue)
	}
	for _, t := range due {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return max(time.Until(next), 0)
}

// tick does what is due.
func (s *supervisor) tick(now time.Time) {
	past := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	for _, g := range s.gens {
		if past(g.goneDue) {
			s.log.Error("upgrade: supervisor: a process that was dismissed does not end, and is killed", "pid", g.pid, "after", s.opts.AbortGrace)
			g.goneDue = now.Add(time.Second)
			g.kill()
		}
	}
	switch g := s.main; {
	case s.ending && past(s.endDue):
		s.log.Error("upgrade: supervisor: what still drains is killed", "processes", len(s.gens), "after", s.opts.AbortGrace)
		s.endDue = now.Add(time.Second)
		s.killAll()
	case s.ending:
	case g == nil && past(s.restartAt):
		s.restart()
	case g == nil && past(s.heirsDue):
		s.decide()
	case g != nil && past(g.due):
		s.log.Error("upgrade: supervisor: not serving in time", "pid", g.pid, "Timeout", s.opts.Timeout)
		g.due = now.Add(time.Second)
		g.kill()
	case g != nil && past(g.silent):
		s.bark(g, now)
	}
}

// bark ends a main generation that is silent: by SIGABRT, for its stacks, and then for good.
func (s *supervisor) bark(g *generation, now time.Time) {
	s.log.Error("upgrade: supervisor: the main generation is silent", "pid", g.pid, "Watchdog", s.opts.Watchdog)
	if g.barks++; g.barks == 1 {
		g.send(unix.SIGABRT)
	} else {
		g.kill()
	}
	g.silent = now.Add(max(s.opts.Watchdog, time.Second))
}
