package supervisor

import (
	"errors"
	"fmt"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// lead makes a process the main generation, and remembers its build for the next crash.
func (s *supervisor) lead(p *proc, now time.Time, m *sdnotify.Message) {
	p.noteClaim(m)
	if old := s.main; old != nil && old != p {
		if old.state == starting && old.number == p.number && p.parent != old {
			old.kill() // p is a candidate that was never announced, so old was started in its place after a crash
		}
		s.on(old, onSuperseded, now, m)
	}
	p.led, p.serveBy = now, time.Time{}
	if p.intent == unintended {
		p.endBy = time.Time{} // removes the limit of limitWait: p may be a candidate whose parent has ended
	}
	s.rearm(p, now)
	s.main = p
	if s.phase == untried {
		s.phase = running
	}
	s.console.take()
	if errors.Is(p.handle.Signal(0), unix.EPERM) {
		s.log.Error("upgrade: supervisor: it may not signal the service, which has become another user: no signal is passed on, and nothing can be killed: "+
			"give it CAP_KILL, or start it as that user", "pid", p.pid)
	}
	s.log.Info("upgrade: supervisor: main generation", "pid", p.pid, "generation", p.number, "version", p.version)
	orphans := s.procs.orphans()
	s.recovery.end(p, now, len(orphans) > 0)
	for _, o := range orphans {
		s.on(o, onMainServes, now, m)
	}
	if s.hangup {
		s.hangup = false
		p.send(unix.SIGHUP)
	}
	s.manager.relay(m)
}

// rearm is called when READY=1 or WATCHDOG=1 was received. It gives the main generation the full time of the watchdog again.
func (s *supervisor) rearm(p *proc, now time.Time) {
	if s.opts.Watchdog > 0 {
		p.aliveBy = now.Add(s.opts.Watchdog)
	}
}

// shelter lets an orphan serve, or dismisses the orphan if another process has become the service already.
func (s *supervisor) shelter(p *proc, now time.Time, m *sdnotify.Message) {
	s.log.Warn("upgrade: supervisor: a candidate has lost its old process before the commit: it serves until the committed build does", "pid", p.pid)
	p.version, p.endBy = m.Value(sdnotify.WordVersion), time.Time{}
	switch {
	case s.main == nil:
		s.recovery.heirsDue = time.Time{}
		s.settle()
	case s.main.state != starting && !s.main.dead() && p.parent != s.main:
		s.on(p, onMainServes, now, m)
	}
}

// dismiss limits the time in which an orphan has to end. The main generation, which serves now, sends the orphan the order to
// end over a control socket between the two. If they have no such socket yet, dismiss makes the socket. If this fails, dismiss
// sends the orphan SIGTERM.
func (s *supervisor) dismiss(p *proc, now time.Time) {
	p.endBy = now.Add(s.opts.AbortGrace + time.Second)
	if p.met != s.main.number {
		if err := newMeeting(p).arrange(s.main.inbox.file); err != nil {
			s.log.Error("upgrade: supervisor: the idle connections and the state of a process that was not committed are lost", "pid", p.pid, "err", err)
			p.send(unix.SIGTERM)
			return
		}
		p.met = s.main.number
	}
	s.log.Info("upgrade: supervisor: the committed build serves: the process that nobody has committed goes", "pid", p.pid, "main", s.main.pid)
}

// limitDrain handles a draining candidate whose parent has ended: the candidate has to end within AbortGrace and a second. A
// candidate that has been the service, or that has a limit already, is left alone.
func (s *supervisor) limitDrain(p *proc, now time.Time) {
	if p.led.IsZero() && p.endBy.IsZero() {
		p.endBy = now.Add(s.opts.AbortGrace + time.Second)
	}
}

// endSilent ends a main generation that is silent. The action abort sends SIGABRT, so that the process prints its stacks. The
// action killSilent kills the process.
func (s *supervisor) endSilent(p *proc, do action, now time.Time) {
	s.log.Error("upgrade: supervisor: the main generation is silent", "pid", p.pid, "Watchdog", s.opts.Watchdog)
	if do == abort {
		p.send(unix.SIGABRT)
	} else {
		p.kill()
	}
	p.aliveBy = now.Add(abortLimit)
}

// endOverdue ends a process whose time until endBy is over. The action terminate is for a dismissed orphan, which perhaps has
// not received the order to end: it only gets SIGTERM. The action killOverdue kills the process.
func (s *supervisor) endOverdue(p *proc, do action, now time.Time) {
	if do == terminate {
		s.log.Warn("upgrade: supervisor: a process that nobody has committed does not go, and is told to end", "pid", p.pid)
		p.endBy = now.Add(s.opts.AbortGrace)
		p.intend(asked)
		p.send(unix.SIGTERM)
		return
	}
	s.log.Error("upgrade: supervisor: a process that has to end does not, and is killed", "pid", p.pid)
	p.endBy = now.Add(time.Second)
	p.kill()
}

// passNext sends the next sockets to a process that has received the sockets sent so far. If this fails, passNext kills the
// process, which could not serve without all sockets.
func (s *supervisor) passNext(p *proc) {
	if p.passing == nil {
		return
	}
	if err := p.passing.next(p.inbox.file); err != nil {
		s.log.Error("upgrade: supervisor: cannot pass the sockets on: the process is ended", "pid", p.pid, "err", sys.Explain(err))
		s.recovery.excuse(p, time.Now())
		p.kill()
	}
}

// died handles the end of a process.
func (s *supervisor) died(p *proc) {
	s.receive() // the messages that the process sent before its end are handled first
	s.procs.reap(s.suspended)
	if s.procs.forget(p) {
		s.on(p, onEnded, time.Now(), nil)
		p.close()
	}
}

// mend handles the end of the main generation: it kills the rest of the process group, and calls lost. In phase ending mend
// does nothing.
func (s *supervisor) mend(p *proc) {
	if s.phase != ending {
		p.sweep()
		s.lost(p)
	}
}

// lost handles the loss of the main generation: the process has ended, or has handed over and no other process serves. If the
// end was deliberate, or if no generation has served yet, the service ends. Otherwise the loss is a crash.
func (s *supervisor) lost(p *proc) {
	s.main = nil
	if p.deliberate() || s.phase == untried {
		if s.phase == untried && p.known {
			s.console.passKey(p.status)
		}
		s.finish(p.exitCode())
		return
	}
	now := time.Now()
	if now.Sub(s.passed) < hangupLimit { // perhaps the process has not handled SIGHUP: the next generation is sent SIGHUP again
		s.hangup, s.passed = true, time.Time{}
	}
	s.recovery.begin(p, now)
	what := "upgrade: supervisor: the main generation has ended without being told to"
	if p.state == draining {
		what = "upgrade: supervisor: the main generation has handed over, and nobody has said yet that it is the service"
	}
	s.onChildren(p, onParentEnded)
	s.log.Error(what, "pid", p.pid,
		"generation", p.number, "version", p.version, "status", p.describe(), "after", now.Sub(p.since()).Round(time.Millisecond))
	s.manager.up.Status(fmt.Sprintf("generation %d, version %s, has ended: %s; starting again", p.number, p.version, p.describe()))
	s.settle()
}

// settle finds out which process is to serve, if there is no main generation and no start is under way.
func (s *supervisor) settle() {
	if s.main != nil || s.isLaunching() || s.phase == ending {
		return
	}
	if s.recovery.decide(time.Now(), s.promote) {
		s.finish(s.recovery.crashed.exitCode())
	}
}

// promote orders an orphan to be the service. It takes the newest orphan to which the order can be sent, and reports whether
// there was such an orphan.
func (s *supervisor) promote() bool {
	p := confirm(s.procs.orphans(), s.log)
	if p == nil {
		return false
	}
	s.on(p, onConfirmed, time.Now(), nil)
	s.recovery.outage.begun = time.Now() // the downtime begins now: until now the orphan has served
	return true
}

// finish ends the service. Older generations may still finish their connections.
func (s *supervisor) finish(code int) {
	if s.phase == running { // in phase untried the program may be a command that the manager runs while another process serves
		s.manager.up.Say(sdnotify.WordStopping)
	}
	s.phase, s.code, s.main = ending, code, nil
	s.store.close() // so that new connections are refused, and do not wait for an accept
	for _, p := range s.procs.all {
		if !p.state.isLeaving() {
			p.send(unix.SIGTERM)
		}
	}
	s.endDue = time.Now().Add(s.opts.AbortGrace)
	if len(s.procs.all) > 0 {
		s.log.Info("upgrade: supervisor: waiting for generations that drain", "processes", len(s.procs.all), "AbortGrace", s.opts.AbortGrace)
	}
}

// pause is the time until the next deadline.
func (s *supervisor) pause() time.Duration {
	next := time.Now().Add(time.Hour)
	due := []time.Time{s.recovery.restartAt, s.recovery.heirsDue, s.manager.beatDue, s.console.resumeDue, s.endDue}
	if s.main != nil {
		due = append(due, s.main.serveBy, s.main.aliveBy)
	}
	if s.isLaunching() {
		due = append(due, s.launch.due, s.launch.stopBy)
	}
	for _, p := range s.procs.all {
		due = append(due, p.endBy)
	}
	for _, t := range due {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return max(time.Until(next), 0)
}

func past(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// tick does everything that is due.
func (s *supervisor) tick(now time.Time) {
	for _, p := range s.procs.byNumber() {
		if past(p.endBy, now) {
			s.on(p, onOverdue, now, nil)
		}
	}
	if past(s.console.resumeDue, now) {
		s.continued()
	}
	switch p := s.main; {
	case s.phase == ending && past(s.endDue, now):
		s.log.Error("upgrade: supervisor: what still drains is killed", "processes", len(s.procs.all), "after", s.opts.AbortGrace)
		s.endDue = now.Add(time.Second)
		s.procs.kill()
	case s.phase == ending:
	case s.isLaunching():
		s.tickLaunch(now)
	case p == nil && past(s.recovery.restartAt, now):
		s.start(s.recovery.restart(now))
	case p == nil && past(s.recovery.heirsDue, now):
		s.settle()
	case p != nil && past(p.serveBy, now):
		s.log.Error("upgrade: supervisor: not serving in time", "pid", p.pid, "Timeout", s.opts.Timeout)
		p.serveBy = now.Add(time.Second)
		p.kill()
	case p != nil && past(p.aliveBy, now):
		s.on(p, onSilence, now, nil)
	}
	s.manager.beat(now, s.isMending()) // comes last: isMending may have become true above
}

// tickLaunch handles a start that takes too long. Usually the supervisor goes on waiting. But if a stop was asked for, or if
// the service has been down for too long, the service ends without the program.
func (s *supervisor) tickLaunch(now time.Time) {
	l := s.launch
	switch {
	case past(l.stopBy, now):
		s.log.Error("upgrade: supervisor: told to stop while a start hangs: the service ends without that program", "program", l.build.Args[0])
		s.finish(0)
	case past(l.due, now):
		s.log.Error("upgrade: supervisor: the kernel has not executed the program in time: waiting on", "program", l.build.Args[0], "Timeout", s.opts.Timeout)
		l.due = now.Add(s.opts.Timeout)
		if l.report != nil && s.recovery.isTooLong(now) {
			s.finish(s.recovery.crashed.exitCode())
		}
	}
}

// isMending reports whether the supervisor, and not a generation, answers the manager's watchdog. The supervisor does so from
// the end of a main generation until the next generation serves. It also does so between SIGABRT and SIGKILL for a silent main
// generation.
func (s *supervisor) isMending() bool {
	return s.phase == running && (s.main == nil || s.main.state == starting || s.main.state == hung)
}
