package supervisor

import (
	"errors"
	"fmt"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// When and what the supervisor starts again, and when it gives up. The end of a generation that has served, and the end of a
// program before it serves, count as crashes of the build. A start that fails before the program runs is the fault of the
// machine: of its limits, its memory, its files. It is tried again, and is no reason for another build.

// outage counts what has happened since a generation has served for Guard.
type outage struct {
	crashes int           // of the build that is started, in a row
	row     int           // crashes and starts that have failed, of whatever build, in a row: the pauses follow from it
	failed  int           // programs in a row that have ended before they served
	down    time.Duration // how long nobody has served, until a generation served last
	begun   time.Time     // since when nobody serves; zero: a generation does
	stuck   time.Time     // since when the machine does not let a program start; zero: no start has failed so
}

// begin notes that nobody serves.
func (o *outage) begin(now time.Time) {
	if o.begun.IsZero() {
		o.begun = now
	}
}

// served notes that a generation serves. If an orphan has served meanwhile, the service was not down.
func (o *outage) served(now time.Time, orphan bool) {
	if !o.begun.IsZero() && !orphan {
		o.down += now.Sub(o.begun)
	}
	o.begun, o.stuck, o.failed = time.Time{}, time.Time{}, 0
}

// unable notes that the machine has not let a program start.
func (o *outage) unable(now time.Time) {
	if o.stuck.IsZero() {
		o.stuck = now
	}
}

// count counts a generation that has crashed. One that had served for guard before is the first one again.
func (o *outage) count(g *generation, guard time.Duration) {
	if g.ready && g.ended.Sub(g.since) >= guard {
		o.crashes, o.row, o.down = 0, 0, 0
		return
	}
	o.crashes++
	o.row++
}

// mostFailed is how often the committed build may end before it serves until an orphan is the service.
const mostFailed = 2

// hopeless reports whether an orphan is to be the service: the program has ended before it served, twice, or no program could be
// started for limit. An orphan serves all that time, but has neither the pid file nor what is Exclusive.
func (o *outage) hopeless(now time.Time, limit time.Duration) bool {
	return o.failed >= mostFailed || !o.stuck.IsZero() && now.Sub(o.stuck) >= limit
}

// pauses are the times between crash and restart.
var pauses = process.Backoff{First: 100 * time.Millisecond, Most: 10 * time.Second}

// schedule decides when a process is started after a crash, or that none is, because nobody has served for too long. restart
// decides which build it runs. The last try is when that time is over. An orphan serves, so the supervisor does not give up then.
func (s *supervisor) schedule(now time.Time) {
	o := &s.outage
	if s.crashed == s.counted {
		o.row++ // by a start that has failed since
	} else {
		o.count(s.crashed, s.opts.Guard)
	}
	s.counted = s.crashed
	pause, down := pauses.Pause(o.row), o.down+now.Sub(o.begun)
	if s.opts.GiveUp > 0 && len(s.orphans()) == 0 {
		if down >= s.opts.GiveUp {
			s.log.Error("upgrade: supervisor: the service is down for too long: the supervisor ends", "down", down.Round(time.Millisecond), "GiveUp", s.opts.GiveUp)
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
