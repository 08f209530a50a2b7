package upgrade

import (
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// What the supervisor hears from the generations, and what it does when the main one has ended.

// receive reads everything that was sent until now.
func (s *supervisor) receive() {
	for m, ok := s.inbox.next(); ok; m, ok = s.inbox.next() {
		s.hear(&m)
		m.close()
	}
}

// hear handles one message. Only the generations may speak, and processes that were started to become one.
func (s *supervisor) hear(m *message) {
	g := s.gens[m.pid]
	if s.ending || g == nil && !belongs(m.pid) {
		return
	}
	if m.has(wordStore) {
		s.keep(m)
	}
	if m.has(wordCandidate) {
		s.introduced(m)
	}
	if m.has(wordReady) {
		s.claimed(m)
		g = s.gens[m.pid]
	}
	if g == nil {
		return
	}
	if m.has(wordHandedOver) {
		g.left = true
		if g == s.main { // to one that was dead before its word was read
			s.lost(g)
		} else if s.main == nil {
			s.decide()
		}
	}
	if g == s.main {
		s.hearMain(g, m)
	}
}

func (s *supervisor) hearMain(g *generation, m *message) {
	now := time.Now()
	if m.has(wordStopping) {
		g.stopping = true
		s.up.say(wordStopping)
	}
	if m.has(wordRemove) {
		s.store.remove(m.value(wordName))
	}
	if m.has(wordAlive) && !g.silent.IsZero() {
		g.silent = now.Add(s.opts.Watchdog)
	}
	if v, err := strconv.ParseInt(m.value(wordExtend), 10, 64); err == nil && !g.due.IsZero() {
		if due := now.Add(time.Duration(v) * time.Microsecond); due.After(g.due) {
			g.due = due
		}
	}
	if v := m.value(wordStatus); v != "" {
		s.log.Debug("upgrade: supervisor: status", "pid", g.pid, "status", v)
		s.up.say(wordStatus + v)
	}
}

func (s *supervisor) keep(m *message) {
	for _, f := range m.files {
		if !s.store.add(m.value(wordName), f) {
			s.log.Warn("upgrade: supervisor: cannot hold a socket: a crash will close it", "name", m.value(wordName))
		}
	}
	m.files = nil // they are the store's
}

// introduced takes hold of what a candidate runs. One that crashes right after its commit has been the service all the
// same.
func (s *supervisor) introduced(m *message) {
	g, err := s.track(m.pid)
	if err == nil && g.build == nil {
		g.build, err = buildOf(m.pid, m.value(wordVersion))
	}
	if err != nil {
		s.log.Warn("upgrade: supervisor: cannot hold the build of a candidate", "pid", m.pid, "err", err)
	}
}

// claimed handles a process that says that it is the service, or that another one is which cannot speak for itself. The
// main generation moves forward only, but for one that has taken the service back.
func (s *supervisor) claimed(m *message) {
	pid := m.pid
	if v, err := strconv.Atoi(m.value(wordPID)); err == nil {
		pid = v
	}
	g := s.gens[pid]
	switch {
	case pid != m.pid && (s.main == nil || m.pid != s.main.pid || g == nil && !belongs(pid)):
		s.log.Warn("upgrade: supervisor: not a generation", "pid", pid, "says", m.pid)
		return
	case g != nil && g.left:
		s.log.Warn("upgrade: supervisor: it has handed over and cannot be the service again", "pid", pid)
		return
	}
	if !s.mayLead(pid, g) {
		s.log.Error("upgrade: supervisor: two processes claim to be the service: the later one is told to end", "pid", pid, "main", s.main.pid)
		if g, err := s.track(pid); err == nil {
			g.send(unix.SIGTERM)
		}
		return
	}
	g, err := s.track(pid)
	if err != nil {
		s.log.Warn("upgrade: supervisor: the new main generation has ended already", "pid", pid, "err", err)
		return
	}
	if n, err := strconv.Atoi(m.value(wordGeneration)); err == nil {
		g.number = n
	}
	if v := m.value(wordVersion); v != "" {
		g.version = v
	}
	s.lead(g)
}

// mayLead decides between two. Usually one is the parent of the other. If not, a process that was started after a crash
// has met a candidate that nobody knew of: who serves already goes on.
func (s *supervisor) mayLead(pid int, g *generation) bool {
	m := s.main
	if m == nil || m.pid == pid || m.dead() || parentOf(pid) == m.pid || g != nil && g.isMain {
		return true
	}
	if m.ready {
		return false
	}
	m.kill()
	return true
}

// lead makes a process the main generation, and remembers what it runs.
func (s *supervisor) lead(g *generation) {
	if s.main == g && g.ready {
		return
	}
	now := time.Now()
	g.isMain, g.ready, g.since, g.due = true, true, now, time.Time{}
	if s.opts.Watchdog > 0 {
		g.silent = now.Add(s.opts.Watchdog)
	}
	if s.main != nil && s.main != g {
		s.main.silent = time.Time{}
	}
	s.main, s.everMain = g, true
	s.crashed, s.restartAt, s.heirsDue = nil, time.Time{}, time.Time{}
	s.log.Info("upgrade: supervisor: main generation", "pid", g.pid, "generation", g.number, "version", g.version)
	s.up.say(wordReady)
	s.remember(g)
}

func (s *supervisor) remember(g *generation) {
	b, err := g.build, error(nil)
	if g.build = nil; b == nil {
		b, err = buildOf(g.pid, g.version)
	}
	if err != nil {
		s.log.Warn("upgrade: supervisor: cannot hold the build: a crash will bring back the one before", "pid", g.pid, "err", err)
		return
	}
	if b.same(s.last) {
		s.last.release()
	} else {
		s.crashes = 0 // a new build has not crashed yet
		if s.before != nil {
			s.before.release()
		}
		s.before = s.last
	}
	s.last = b
}

// died handles the end of a process.
func (s *supervisor) died(g *generation) {
	s.receive() // what it had said before
	s.reap()
	delete(s.gens, g.pid)
	g.pidfd.Close()
	if g.build != nil {
		g.build.release()
	}
	switch {
	case s.ending:
	case g == s.main:
		s.lost(g)
	case s.main == nil:
		s.decide()
	}
}

// lost handles the end of the main generation: the end of the service if it was meant, or else a crash.
func (s *supervisor) lost(g *generation) {
	s.main = nil
	if !g.left {
		_ = unix.Kill(-g.pid, unix.SIGKILL) // what it has started, if there is something: else nobody has that number yet
	}
	if g.stopping || g.told || !s.everMain {
		s.finish(g.exitCode())
		return
	}
	s.crashed = g
	what := "upgrade: supervisor: the main generation has ended without being told to"
	if g.left {
		what = "upgrade: supervisor: the main generation has handed over to a process that is dead"
	}
	s.log.Error(what, "pid", g.pid,
		"generation", g.number, "version", g.version, "status", g.describe(), "after", time.Since(g.since).Round(time.Millisecond))
	s.decide()
}

func (g *generation) describe() string {
	switch {
	case !g.known:
		return "unknown: an older generation is its parent"
	case g.status.Signaled():
		return "signal: " + g.status.Signal().String()
	}
	return "exit status " + strconv.Itoa(g.status.ExitStatus())
}

// decide finds out who is to serve, when nobody does: a process that may become the service by itself, as long as one
// lives, and else a new one.
func (s *supervisor) decide() {
	if s.crashed == nil || !s.restartAt.IsZero() {
		return
	}
	now := time.Now()
	heirs := s.heirs()
	switch {
	case len(heirs) == 0:
		s.heirsDue = time.Time{}
		s.schedule(now)
	case s.heirsDue.IsZero():
		s.heirsDue = now.Add(s.opts.Timeout)
		s.log.Warn("upgrade: supervisor: another process of the upgrade lives and is to take over", "pid", heirs[0].pid)
	case now.After(s.heirsDue):
		s.heirsDue = now.Add(time.Second) // their end comes here
		for _, g := range heirs {
			s.log.Error("upgrade: supervisor: it has not taken over, and is killed", "pid", g.pid, "after", s.opts.Timeout)
			g.kill()
		}
	}
}

// heirs are the processes that may yet become the service.
func (s *supervisor) heirs() (all []*generation) {
	for _, pid := range candidates() {
		if g, err := s.track(pid); err == nil && !g.isMain {
			all = append(all, g)
		}
	}
	for _, g := range s.gens {
		if g.isMain && !g.left && !g.dead() {
			all = append(all, g)
		}
	}
	return all
}

// The time between crash and restart: none the first time, then from the one to the other.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// schedule decides what is started after a crash, and when.
func (s *supervisor) schedule(now time.Time) {
	if !s.crashed.ready || now.Sub(s.crashed.since) < s.opts.Guard {
		s.crashes++
	} else {
		s.crashes = 0
	}
	if s.crashes > s.opts.MaxRestarts {
		s.log.Error("upgrade: supervisor: too many crashes in a row: the supervisor ends", "crashes", s.crashes, "MaxRestarts", s.opts.MaxRestarts)
		s.finish(s.crashed.exitCode())
		return
	}
	s.restartAt = now
	if n := s.crashes - 2; n >= 0 {
		s.restartAt = now.Add(min(firstPause<<min(n, 10), lastPause))
	}
}

// restart starts what was committed last, or what was before it.
func (s *supervisor) restart() {
	s.restartAt = time.Time{}
	out := &Outcome{
		Kind: kindCrash, Started: time.Now(), At: time.Now(), Committed: true, From: s.crashed.version, FromPID: s.crashed.pid,
		Reason: fmt.Sprintf("generation %d, version %s, pid %d, has ended after %v: %s", s.crashed.number, s.crashed.version,
			s.crashed.pid, time.Since(s.crashed.since).Round(time.Millisecond), s.crashed.describe()),
	}
	if s.crashes >= 2 && s.before != nil {
		out.Kind = kindFallback
		s.log.Error("upgrade: supervisor: the build has crashed again within its guard time: back to the one before it",
			"version", s.last.version, "back to", s.before.version, "Guard", s.opts.Guard)
		s.last.release()
		s.last, s.before, s.crashes = s.before, nil, 0
	}
	if err := s.start(out); err != nil {
		s.log.Error("upgrade: supervisor: cannot start", "err", err)
		s.crashed.since = time.Now()
		s.schedule(time.Now())
	}
}

// finish ends the service. Older generations may still finish what they have begun.
func (s *supervisor) finish(code int) {
	s.ending, s.code, s.main = true, code, nil
	s.store.close() // who connects now is to be refused, not to wait
	for _, pid := range candidates() {
		if g, err := s.track(pid); err == nil && !g.isMain {
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
