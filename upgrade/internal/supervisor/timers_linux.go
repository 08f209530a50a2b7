package supervisor

import (
	"errors"
	"fmt"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// The end of the service, and what the supervisor does when a time is over.

// finish ends the service. Older generations may still finish what they have begun.
func (s *supervisor) finish(code int) {
	s.ending, s.code, s.main = true, code, nil
	if s.everMain { // else this may be a command that the manager runs beside the service
		s.up.Say(sdnotify.WordStopping)
	}
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
	due := []time.Time{s.restartAt, s.heirsDue, s.beatDue, s.resumeDue, s.endDue}
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
	defer s.beat(now) // it may begin with what is done here
	for _, g := range s.gens {
		if past(g.goneDue) && g.orphan && !g.told { // the process that serves may not have reached it
			s.log.Warn("upgrade: supervisor: a process that nobody has committed does not go, and is told to end", "pid", g.pid)
			g.told, g.goneDue = true, now.Add(s.opts.AbortGrace)
			g.send(unix.SIGTERM)
			continue
		}
		if past(g.goneDue) {
			s.log.Error("upgrade: supervisor: a process that has to end does not, and is killed", "pid", g.pid)
			g.goneDue = now.Add(time.Second)
			g.kill()
		}
	}
	if past(s.resumeDue) {
		s.continued()
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
	g.silent = now.Add(abortLimit)
}

// When and what the supervisor starts again, and when it gives up. The end of a generation that has served, and the end of a
// program before it serves, count as crashes of the build. A start that fails before the program runs is the fault of the
// machine: of its limits, its memory, its files. It is tried again, and is no reason for another build.

// schedule decides when a process is started after a crash, or that none is, because nobody has served for too long. restart
// decides which build it runs. The last try is when that time is over. An orphan serves, so the supervisor does not give up then.
func (s *supervisor) schedule(now time.Time) {
	o := &s.outage
	if s.crashed == s.counted {
		o.row++ // by a start that has failed since
	} else {
		o.count(s.opts.Guard, s.crashed.served())
	}
	s.counted = s.crashed
	pause, down := pauses.Pause(o.row), o.down+now.Sub(o.begun)
	if s.opts.GiveUp > 0 && len(s.orphans()) == 0 {
		if down >= s.opts.GiveUp {
			s.log.Error("upgrade: supervisor: the service is down for too long: the supervisor ends",
				"down", down.Round(time.Millisecond), "GiveUp", s.opts.GiveUp)
			s.finish(s.crashed.exitCode())
			return
		}
		pause = min(pause, s.opts.GiveUp-down)
	}
	s.restartAt = now.Add(pause)
}

// restart starts what was committed last, or what was before it.
func (s *supervisor) restart() {
	s.restartAt = time.Time{}
	if s.outage.crashes >= 2 && s.before != nil {
		s.change()
	}
	b, kind := s.last, KindCrash
	if s.instead != nil {
		b, kind = s.instead, KindFallback
	}
	now := time.Now()
	err := s.start(b, &Report{
		Kind: kind, Started: now, At: now, Begun: sys.Uptime(), Committed: true, From: s.crashed.version, FromPID: s.crashed.pid,
		Reason: fmt.Sprintf("generation %d, version %s, pid %d, has ended after %v: %s", s.crashed.number, s.crashed.version,
			s.crashed.pid, s.crashed.ended.Sub(s.crashed.since).Round(time.Millisecond), s.crashed.describe()),
	})
	if err == nil {
		s.outage.stuck = time.Time{}
		return
	}
	s.outage.unable(time.Now())
	if errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.ELIBBAD) { // the file is not what it was
		s.outage.crashes++
	}
	s.log.Error("upgrade: supervisor: cannot start the service: it is tried again", "err", err)
	s.decide()
}

// change makes the build before the one that is started. If that one does not serve either, the build that was committed last
// is tried again, and so on: what both need may be away. The one that serves first is the committed one then.
func (s *supervisor) change() {
	s.outage.crashes = 0
	if s.instead != nil {
		s.instead = nil
		s.log.Error("upgrade: supervisor: the build before does not serve either: back to the one that was committed last",
			"version", s.before.Version, "back to", s.last.Version)
		return
	}
	s.instead = s.before
	s.log.Error("upgrade: supervisor: the build has crashed again within its guard time: back to the one before it",
		"version", s.last.Version, "back to", s.before.Version, "Guard", s.opts.Guard)
}
