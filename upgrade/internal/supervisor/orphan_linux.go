package supervisor

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// An orphan is a candidate whose old process has died before the candidate received the commit message: nobody has decided
// that its build is good, and memory pressure makes that happen, since the kernel kills the bigger process first. It serves
// meanwhile, so that nobody is refused. The build that was committed last is started beside it, with a number above both. The two
// get a control socket to each other before that one is executed. When it serves, it sends the orphan away over that socket, and
// takes idle connections and state from it: also if this supervisor dies in between, one of the two is the service. Only if the
// committed build ends twice before it serves, or the machine does not let it start for Timeout, the orphan becomes the service.

// orphaned handles a candidate that says that it is an orphan.
func (s *supervisor) orphaned(g *generation, version string) {
	if g.left || g.isMain {
		return
	}
	s.log.Warn("upgrade: supervisor: a candidate has lost its old process before the commit: it serves until the committed build does", "pid", g.pid)
	g.orphan, g.version, g.goneDue = true, version, time.Time{}
	switch {
	case s.main == nil:
		s.heirsDue = time.Time{}
		s.decide()
	case s.main.ready && !s.main.dead() && g.parent != s.main: // another process has become the service already
		s.dismiss(g, s.main)
	}
}

// orphans lists those that live and were not dismissed, the newest first.
func (s *supervisor) orphans() (all []*generation) {
	for _, g := range s.gens {
		if g.orphan && !g.left && !g.dead() {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b *generation) int { return cmp.Compare(b.number, a.number) })
	return all
}

// disown gives the candidates of a main generation that has ended a time: they are to say that they are orphans, unless one may
// have been committed, and those that were taken back are to end.
func (s *supervisor) disown(main *generation, now time.Time) {
	for _, g := range s.gens {
		switch {
		case g.parent != main || g.isMain || g.orphan || !g.goneDue.IsZero():
		case g.left:
			g.goneDue = now.Add(s.opts.AbortGrace + time.Second)
		case !main.committing:
			g.goneDue = now.Add(s.opts.Timeout)
		}
	}
}

func (s *supervisor) dismissOrphans(main *generation) {
	for _, g := range s.orphans() {
		s.dismiss(g, main)
	}
}

// dismiss notes that an orphan has to go, now that the main generation serves, which sends it away.
func (s *supervisor) dismiss(g, main *generation) {
	g.left, g.goneDue = true, time.Now().Add(s.opts.AbortGrace+time.Second)
	if g.met != main.number {
		if err := s.introduce(g, main.inbox.file, main.number); err != nil {
			s.log.Error("upgrade: supervisor: the idle connections and the state of a process that was not committed are lost", "pid", g.pid, "err", err)
			g.send(unix.SIGTERM)
			return
		}
	}
	s.log.Info("upgrade: supervisor: the committed build serves: the process that nobody has committed goes", "pid", g.pid, "main", main.pid)
}

// introduceOrphans lets a process that is about to be started, by the supervisor's end of its channel, meet the orphans, and the
// candidates that have not said yet that they are.
func (s *supervisor) introduceOrphans(channel *os.File, number int) {
	for _, g := range s.gens {
		if g.left || g.dead() || g.parent == nil || g.confirmed {
			continue
		}
		g.met = 0
		if err := s.introduce(g, channel, number); err != nil { // it is tried again when the process serves
			s.log.Warn("upgrade: supervisor: an orphan does not know yet which process is started in its place", "pid", g.pid, "err", err)
		}
	}
}

// introduce gives the two ends of a new control socket to an orphan and to the process that is to take its place.
func (s *supervisor) introduce(g *generation, channel *os.File, number int) error {
	a, b, err := sys.SocketPair()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	if err := send(channel, []*os.File{a}, sdnotify.WordOrphan, sdnotify.WordPID+strconv.Itoa(g.pid),
		sdnotify.WordGeneration+strconv.Itoa(g.number), sdnotify.WordVersion+g.version); err != nil {
		return sys.Explain(err)
	}
	if err := g.inbox.send([]*os.File{b}, sdnotify.WordSuccessor); err != nil {
		return sys.Explain(err)
	}
	g.met = number
	return nil
}

// confirmOrphan makes the newest orphan the service, and reports whether there is one. It says READY when it is.
func (s *supervisor) confirmOrphan() bool {
	for _, g := range s.orphans() {
		if err := g.inbox.send(nil, sdnotify.WordConfirmed); err != nil {
			s.log.Error("upgrade: supervisor: an orphan cannot be told that it is the service", "pid", g.pid, "err", err)
			continue
		}
		g.orphan, g.confirmed = false, true
		s.outage.begun = time.Now() // until now it has served
		s.log.Error("upgrade: supervisor: the committed build does not start: the process that nobody has committed is the service", "pid", g.pid)
		return true
	}
	return false
}
