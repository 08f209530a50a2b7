package supervisor

import (
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"golang.org/x/sys/unix"
)

// receive reads and handles all messages that the processes have sent so far. While a start is under way, receive reads
// nothing.
func (s *supervisor) receive() {
	if s.isLaunching() {
		return
	}
	s.reserve.Release()
	defer s.reserve.Fill(reserveSize())
	for more := true; more; { // a message may announce a process that has sent messages as well
		more = false
		for _, p := range s.procs.byNumber() {
			for m, ok := p.inbox.next(); ok; m, ok = p.inbox.next() {
				s.handle(p, &m)
				m.Close()
				more = true
			}
		}
	}
	// If the main generation has handed over, and no other process has sent READY, the process that took over has died.
	if m := s.main; m != nil && m.state == draining && s.phase != ending {
		s.lost(m)
	}
}

// handle handles a message of the process p. The channel shows that p has sent the message.
func (s *supervisor) handle(p *proc, m *sdnotify.Message) {
	if s.phase == ending {
		return
	}
	if m.Has(sdnotify.WordStore) {
		s.manager.keep(m)
	}
	if m.Has(sdnotify.WordRemove) && !p.state.isLeaving() {
		s.manager.drop(m.Value(sdnotify.WordName), p.intent == announced)
	}
	if m.Has(sdnotify.WordReceived) {
		s.passNext(p)
	}
	if m.Has(sdnotify.WordCandidate) {
		s.announced(p, m)
	}
	if m.Has(sdnotify.WordReady) {
		s.claimed(p, m)
	}
	if m.Has(sdnotify.WordOrphan) {
		s.on(p, onOrphan, time.Now(), m)
	}
	if m.Has(sdnotify.WordCommitting) { // handled after READY, because READY undoes an earlier COMMITTING of the same process
		s.onChildren(p, onParentCommits)
	}
	if m.Has(sdnotify.WordHandedOver) {
		s.on(p, onHandedOver, time.Now(), m)
	}
	if m.Has(sdnotify.WordAlive) {
		s.on(p, onAlive, time.Now(), m)
	}
	if p == s.main {
		s.handleMain(p, m)
	}
}

// handleMain handles the parts of a message that only the main generation may send.
func (s *supervisor) handleMain(p *proc, m *sdnotify.Message) {
	if !m.Has(sdnotify.WordReady) { // a message with READY was relayed by lead or reaffirm
		s.manager.relay(m)
	}
	if m.Has(sdnotify.WordStopping) {
		p.intend(announced)
	}
	if v, err := strconv.ParseInt(m.Value(sdnotify.WordExtend), 10, 64); err == nil && !p.serveBy.IsZero() {
		if due := time.Now().Add(time.Duration(v) * time.Microsecond); due.After(p.serveBy) {
			p.serveBy = due
		}
	}
	if v := m.Value(sdnotify.WordStatus); v != "" {
		s.log.Debug("upgrade: supervisor: status", "pid", p.pid, "status", v)
	}
}

// announced begins to follow a candidate that a generation has started. The announcement contains all that the supervisor needs
// to know of the candidate, since a candidate may crash right after the commit, before it has sent anything.
func (s *supervisor) announced(by *proc, m *sdnotify.Message) {
	var p *proc
	err := errors.New("it came without its descriptors")
	if len(m.Files) == 4 {
		p, err = s.admit(m.Files[0], m.Files[1], m.Files[2], m.Files[3])
	}
	if err != nil {
		s.log.Error("upgrade: supervisor: cannot follow a candidate: it will not be the service", "announced by", by.pid, "err", err)
		return
	}
	if by == s.main {
		s.passed = time.Time{}
	}
	s.onChildren(by, onParentResumes)
	p.parent, p.number, p.state = by, by.number+1, candidate
	if p.pid == 0 { // the candidate was dead and reaped before the announcement was read
		pid, _ := strconv.Atoi(m.Value(sdnotify.WordPID))
		if ws, ok := s.procs.strangers.take(pid); ok {
			p.reaped(pid, ws)
		}
	}
	m.Files = m.Files[:0] // the files belong to the candidate's proc now
}

// admit begins to follow the process of an announcement. After a success the proc owns pidfd, channel and exe, and admit has
// closed args.
func (s *supervisor) admit(pidfd, channel, exe, args *os.File) (*proc, error) {
	b, err := state.ReadBuild(args)
	if err != nil {
		return nil, err
	}
	handle, err := process.FromPIDFD(pidfd)
	if err != nil {
		return nil, err
	}
	if old := s.procs.all[handle.PID()]; old != nil { // an earlier process with the same pid, whose end was not handled yet
		s.died(old)
	}
	args.Close()
	b.Exe = exe
	p := s.procs.follow(handle, channel)
	p.build = b
	return p, nil
}

// claimed handles READY. A process sends READY when it is the service; the main generation also sends READY for a candidate
// that has no channel to the supervisor.
func (s *supervisor) claimed(p *proc, m *sdnotify.Message) {
	number := claimedNumber(m)
	if pid, err := strconv.Atoi(m.Value(sdnotify.WordPID)); err == nil && pid != p.pid && p.pid != 0 {
		c := s.procs.all[pid]
		if p != s.main || c == nil || c.parent != p {
			return // only the main generation may send READY for another process, which must be its candidate
		}
		p, number = c, c.number
	}
	if p == s.main { // the main generation is still or again the service, so none of its candidates is
		s.onChildren(p, onParentResumes)
	}
	s.on(p, s.judge(p, number), time.Now(), m)
}

// judge decides whether a process that has sent READY becomes the main generation. Usually the process is an announced
// candidate of the main generation, or the main generation is dead: then the process becomes the main generation. A process
// with a greater number does so too. A process with a smaller number comes too late: after the supervisor was suspended, the
// messages of several processes come in any order. Two processes have the same number if one was started after a crash, and the
// other is a candidate that was never announced. Of these two, the process that serves first stays the main generation.
func (s *supervisor) judge(p *proc, number int) event {
	m := s.main
	switch {
	case m == nil, m == p:
		return onLeads
	case p.dead() && m.state != draining && !m.dead(): // p has died: m is the service again, or is about to report HANDED_OVER
		return onLate
	case m.dead(), p.parent == m, number > m.number:
		return onLeads
	case number == m.number && m.state == starting:
		return onLeads
	case number == m.number:
		return onRival
	}
	return onLate
}

// on moves a process to the next state, and executes the action of the table. m is the message that has caused the event, or
// nil if the event has another cause.
func (s *supervisor) on(p *proc, e event, now time.Time, m *sdnotify.Message) {
	from := p.state
	switch do := p.step(e); do {
	case nothing:
	case lead:
		s.lead(p, now, m)
	case reaffirm:
		p.noteClaim(m)
		s.manager.relay(m)
	case refuse:
		s.log.Error("upgrade: supervisor: two processes claim to be the service: the later one is told to end", "pid", p.pid, "main", s.main.pid)
		p.send(unix.SIGTERM)
	case disbelieve:
		s.log.Error("upgrade: supervisor: a process that nobody has committed claims to be the service", "pid", p.pid)
	case rearm:
		s.rearm(p, now)
	case abort, killSilent:
		s.endSilent(p, do, now)
	case disarm:
		p.aliveBy = time.Time{}
	case shelter:
		s.shelter(p, now, m)
	case dismiss:
		s.dismiss(p, now)
	case terminate, killOverdue:
		s.endOverdue(p, do, now)
	case limitWait:
		p.endBy = now.Add(s.opts.Timeout)
	case limitDrain:
		s.limitDrain(p, now)
	case settle:
		s.settle()
	case mend:
		s.mend(p)
	default:
		s.log.Error("upgrade: supervisor: this cannot happen to a process in this state", "pid", p.pid, "state", from, "event", e)
	}
}

// onChildren handles an event for all processes that another process has announced.
func (s *supervisor) onChildren(parent *proc, e event) {
	for _, p := range s.procs.of(parent) {
		s.on(p, e, time.Now(), nil)
	}
}
