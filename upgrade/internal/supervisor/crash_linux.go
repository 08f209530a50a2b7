package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"golang.org/x/sys/unix"
)

// What the supervisor hears from the generations, and what it does when the main one has ended.

// receive reads everything that was sent until now, by all generations.
func (s *supervisor) receive() {
	s.reserve.Release()
	defer s.reserve.Fill(reserveSize())
	byNumber := func(a, b *generation) int { return cmp.Compare(a.number, b.number) }
	for heard := true; heard; { // what is heard may be of a generation that has more to say
		heard = false
		for _, g := range slices.SortedFunc(maps.Values(s.gens), byNumber) {
			for m, ok := g.inbox.next(); ok; m, ok = g.inbox.next() {
				s.hear(g, &m)
				m.Close()
				heard = true
			}
		}
	}
	if m := s.main; m != nil && m.left && !s.ending { // to a generation that has died before it could say that it serves
		s.lost(m)
	}
}

// hear handles one message of a generation: the channel that it came on says whose it is.
func (s *supervisor) hear(g *generation, m *sdnotify.Message) {
	if s.ending {
		return
	}
	if m.Has(sdnotify.WordStore) {
		s.keep(m)
	}
	if m.Has(sdnotify.WordRemove) && !g.left {
		s.drop(m.Value(sdnotify.WordName), g)
	}
	if m.Has(sdnotify.WordReceived) {
		s.pass(g)
	}
	if m.Has(sdnotify.WordCandidate) {
		s.announced(g, m)
	}
	if m.Has(sdnotify.WordReady) {
		s.claimed(g, m)
	}
	if m.Has(sdnotify.WordOrphan) {
		s.orphaned(g, m.Value(sdnotify.WordVersion))
	}
	if m.Has(sdnotify.WordCommitting) { // after READY, of the same generation, in the order of its channel
		g.committing = true
	}
	if m.Has(sdnotify.WordHandedOver) {
		g.left = true
		if s.main == nil {
			s.decide()
		}
	}
	if g == s.main {
		s.hearMain(g, m)
	}
}

func (s *supervisor) hearMain(g *generation, m *sdnotify.Message) {
	now := time.Now()
	if !m.Has(sdnotify.WordReady) { // which has been passed on
		s.relay(m)
	}
	if m.Has(sdnotify.WordStopping) {
		g.stopping = true
	}
	if m.Has(sdnotify.WordAlive) && !g.silent.IsZero() {
		g.silent, g.barks = now.Add(s.opts.Watchdog), 0
	}
	if v, err := strconv.ParseInt(m.Value(sdnotify.WordExtend), 10, 64); err == nil && !g.due.IsZero() {
		if due := now.Add(time.Duration(v) * time.Microsecond); due.After(g.due) {
			g.due = due
		}
	}
	if v := m.Value(sdnotify.WordStatus); v != "" {
		s.log.Debug("upgrade: supervisor: status", "pid", g.pid, "status", v)
	}
}

// announced begins to follow a candidate that a generation has started: the announcement has all that the supervisor will
// ever need of it. A candidate that crashes right after its commit has been the service all the same.
func (s *supervisor) announced(by *generation, m *sdnotify.Message) {
	var g *generation
	err := errors.New("it came without its descriptors")
	if len(m.Files) == 4 {
		g, err = s.admit(m.Files[0], m.Files[1], m.Files[2], m.Files[3])
	}
	if err != nil {
		s.log.Error("upgrade: supervisor: cannot follow a candidate: it will not be the service", "announced by", by.pid, "err", err)
		return
	}
	g.parent, g.number, by.committing = by, by.number+1, false
	if g.pid == 0 { // it has ended before it was announced
		pid, _ := strconv.Atoi(m.Value(sdnotify.WordPID))
		if ws, ok := s.strangers.take(pid); ok {
			g.reaped(pid, ws)
		}
	}
	m.Files = m.Files[:0] // what is not closed is the generation's
}

// admit makes a generation of what was announced. Without an error the first three files are the generation's.
func (s *supervisor) admit(pidfd, channel, exe, args *os.File) (*generation, error) {
	b, err := state.ReadBuild(args)
	if err != nil {
		return nil, err
	}
	proc, err := process.FromPIDFD(pidfd)
	if err != nil {
		return nil, err
	}
	if old := s.gens[proc.PID()]; old != nil { // its death has not been heard yet
		s.died(old)
	}
	args.Close()
	b.Exe = exe
	g := s.follow(proc, channel)
	g.build = b
	return g, nil
}

// claimed handles a generation that says that it is the service, or the main generation that says so of a candidate which
// cannot speak for itself.
func (s *supervisor) claimed(g *generation, m *sdnotify.Message) {
	version, number := m.Value(sdnotify.WordVersion), 0
	if n, err := strconv.Atoi(m.Value(sdnotify.WordGeneration)); err == nil {
		number = n
	}
	if pid, err := strconv.Atoi(m.Value(sdnotify.WordPID)); err == nil && pid != g.pid && g.pid != 0 {
		c := s.gens[pid]
		if g != s.main || c == nil || c.parent != g {
			return // it is not the main generation that says so, or of no candidate of its own
		}
		g, number = c, c.number
	}
	if g == s.main {
		g.committing = false // it has taken the service back
	}
	switch s.judge(g, number) {
	case unproven:
		s.log.Error("upgrade: supervisor: a process that nobody has committed claims to be the service", "pid", g.pid)
	case leads:
		g.number, g.version = cmp.Or(number, g.number), cmp.Or(version, g.version)
		s.lead(g)
		s.relay(m)
	case late:
		g.isMain, g.left = true, true
	case rival:
		s.log.Error("upgrade: supervisor: two processes claim to be the service: the later one is told to end", "pid", g.pid, "main", s.main.pid)
		g.send(unix.SIGTERM)
	}
}

type verdict int

const (
	leads    verdict = iota // it is the main generation
	late                    // it was, and another one is by now
	rival                   // it is not meant to be, and serves all the same
	unproven                // it has said itself that it was not committed
)

// judge decides about a claim. The main generation moves forward: to a candidate that it has announced, which is the usual case, or to a later
// number, since messages of several processes may come in any order when this one was stopped meanwhile. It moves back
// only if the new one is dead. Two of the same number are a process that was started after a crash, and a candidate that
// nobody knew of: who serves already goes on.
func (s *supervisor) judge(g *generation, number int) verdict {
	m := s.main
	switch {
	case g.left, g.dead() && m != nil && m != g && !m.left && !m.dead(): // the second: m has taken the service back, or will say that it has handed over
		return late
	case g.orphan:
		return unproven
	case m == nil, m == g, m.dead(), g.parent == m, number > m.number:
		return leads
	case number < m.number:
		return late
	case m.ready:
		return rival
	}
	m.kill()
	return leads
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
	s.console.take()
	s.crashed, s.restartAt, s.heirsDue = nil, time.Time{}, time.Time{}
	s.outage.served(now, len(s.orphans()) > 0)
	if errors.Is(g.proc.Signal(0), unix.EPERM) {
		s.log.Error("upgrade: supervisor: it may not signal the service, which has become another user: no signal is passed on, and nothing can be killed: "+
			"give it CAP_KILL, or start it as that user", "pid", g.pid)
	}
	s.log.Info("upgrade: supervisor: main generation", "pid", g.pid, "generation", g.number, "version", g.version)
	s.remember(g)
	s.dismissOrphans(g)
	if s.hangup {
		s.hangup = false
		g.send(unix.SIGHUP)
	}
}

// remember keeps the build of the main generation, for the next crash.
func (s *supervisor) remember(g *generation) {
	b := g.build
	back := s.instead != nil
	s.instead = nil
	if g.build = nil; b == nil { // it was started from a build that is remembered already, or it has taken the service back
		if s.before != nil && (back || s.newest != nil && s.newest.parent == g) {
			s.last.Close()
			s.last, s.before = s.before, nil
		}
		return
	}
	b.Version = g.version
	if b.Same(s.last) {
		s.last.Close()
	} else {
		s.outage.crashes = 0 // a new build has not crashed yet
		s.before.Close()
		s.before, s.newest = s.last, g
	}
	s.last = b
}

// died handles the end of a process.
func (s *supervisor) died(g *generation) {
	s.receive() // what it had said before
	s.reap()
	if s.gens[g.key] != g {
		return // it was handled when its number was seen again
	}
	delete(s.gens, g.key)
	if g == s.main && !s.ending {
		s.sweep(g)
	}
	g.close()
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
	if g.stopping || g.told || g.interrupted() || !s.everMain {
		if !s.everMain {
			s.passKey(g)
		}
		s.finish(g.exitCode())
		return
	}
	now := time.Now()
	s.crashed, g.ended = g, now
	s.outage.begin(now)
	if !g.ready && g != s.counted {
		s.outage.failed++
	}
	what := "upgrade: supervisor: the main generation has ended without being told to"
	if g.left {
		what = "upgrade: supervisor: the main generation has handed over, and nobody has said yet that it is the service"
	}
	s.disown(g, now)
	s.log.Error(what, "pid", g.pid,
		"generation", g.number, "version", g.version, "status", g.describe(), "after", now.Sub(g.since).Round(time.Millisecond))
	s.up.Status(fmt.Sprintf("generation %d, version %s, has ended: %s; starting again", g.number, g.version, g.describe()))
	s.decide()
}

// interrupted tells whether a signal that asks for the end was the end: a second SIGINT that did not come through the
// supervisor, and before it had heard of the first one.
func (g *generation) interrupted() bool {
	return g.known && g.status.Signaled() && (g.status.Signal() == unix.SIGINT || g.status.Signal() == unix.SIGTERM)
}

// sweep ends what a generation that has crashed had started: its process group. Candidates have groups of their own, and one
// that only drains still needs its group. A generation that somebody has reaped may have left its number to another process:
// then the group is that one's, since the kernel gives nobody the number of a group that has members.
func (s *supervisor) sweep(g *generation) {
	if g.left || g.pid <= 0 {
		return
	}
	if g.proc.Signal(0) != nil && unix.Kill(g.pid, 0) != unix.ESRCH {
		return
	}
	_ = unix.Kill(-g.pid, unix.SIGKILL) // fails if nobody is left in it
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
	case len(heirs) == 0 && s.outage.hopeless(now, s.opts.Timeout) && s.confirmOrphan():
		s.heirsDue = now.Add(s.opts.Timeout)
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

// heirs are the processes that may yet become the service by themselves: a candidate may only if the commit message can have been
// sent to it.
func (s *supervisor) heirs() (all []*generation) {
	for _, g := range s.gens {
		if !g.left && !g.orphan && !g.dead() && (g.parent == nil || g.confirmed || g.parent.committing) {
			all = append(all, g)
		}
	}
	return all
}
