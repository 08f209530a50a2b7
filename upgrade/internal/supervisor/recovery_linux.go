package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// recovery is the crash policy: which build is started again, when, and when the supervisor gives up. The end of a generation
// that has served, and the end of a program before it serves, count as crashes of the build. A start that fails before the
// program runs is usually the fault of the machine, such as a limit or too little memory. Such a start is tried again with the
// same build.
type recovery struct {
	opts    Config
	log     *slog.Logger
	procs   *children
	builds  builds
	outage  outage
	crashed *proc // the process that has to be replaced; nil: no process has to be replaced
	counted *proc // the last process whose end was counted as a crash

	restartAt time.Time // zero: no restart is due
	heirsDue  time.Time // until when decide waits for an heir (see children.heirs) to become the service; zero: no wait
}

// begin notes that the main generation was lost by a crash.
func (r *recovery) begin(p *proc, now time.Time) {
	r.crashed, p.lostAt = p, now
	r.outage.begin(now)
	if p.led.IsZero() && p != r.counted {
		r.outage.failed++
	}
}

// end notes that a process has become the service: nothing has to be replaced any more. orphan is true if an orphan has served
// since the crash: then that time does not count as downtime.
func (r *recovery) end(p *proc, now time.Time, orphan bool) {
	r.crashed, r.restartAt, r.heirsDue = nil, time.Time{}, time.Time{}
	r.outage.served(now, orphan)
	if r.builds.remember(p) {
		r.outage.crashes = 0 // a new build has not crashed yet
	}
}

// excuse notes that a process has to be ended because of the machine, and not because of its build.
func (r *recovery) excuse(p *proc, now time.Time) {
	r.outage.unable(now)
	r.counted = p
}

// decide chooses what follows a crash. isOver is true if the supervisor gives up. If processes live that may become the service
// without a further order (see children.heirs), decide gives them Timeout to do so, and kills them after Timeout. Otherwise
// decide schedules the start of a new process. If such starts are hopeless (see outage.hopeless), decide first calls promote,
// which orders an orphan to be the service. If promote returns true, decide schedules no start.
func (r *recovery) decide(now time.Time, promote func() bool) (isOver bool) {
	if r.crashed == nil || !r.restartAt.IsZero() {
		return false
	}
	heirs := r.procs.heirs()
	switch {
	case len(heirs) == 0 && r.outage.hopeless(now, r.opts.Timeout) && promote():
		r.heirsDue = now.Add(r.opts.Timeout)
	case len(heirs) == 0:
		r.heirsDue = time.Time{}
		return r.schedule(now)
	case r.heirsDue.IsZero():
		r.heirsDue = now.Add(r.opts.Timeout)
		r.log.Warn("upgrade: supervisor: another process of the upgrade lives and is to take over", "pid", heirs[0].pid)
	case now.After(r.heirsDue):
		r.heirsDue = now.Add(time.Second) // decide is called again when the killed processes have ended
		for _, p := range heirs {
			r.log.Error("upgrade: supervisor: it has not taken over, and is killed", "pid", p.pid, "after", r.opts.Timeout)
			p.kill()
		}
	}
	return false
}

// schedule decides when a process is started after a crash. The pause ends at the latest when GiveUp is over, so there is a
// last start at this time. isOver is true if the service has been down for GiveUp already.
func (r *recovery) schedule(now time.Time) (isOver bool) {
	o := &r.outage
	if r.crashed == r.counted {
		o.row++ // the crash was counted before, and a start has failed since then
	} else {
		o.count(r.opts.Guard, r.crashed.served())
	}
	r.counted = r.crashed
	if r.isTooLong(now) {
		return true
	}
	pause := pauses.Pause(o.row)
	if left, limited := r.left(now); limited {
		pause = min(pause, left)
	}
	r.restartAt = now.Add(pause)
	return false
}

// left returns how long the service may still be down. limited is false if there is no limit: GiveUp is 0, or an orphan serves.
func (r *recovery) left(now time.Time) (left time.Duration, limited bool) {
	return r.opts.GiveUp - r.outage.total(now), r.opts.GiveUp > 0 && len(r.procs.orphans()) == 0
}

// isTooLong reports whether the service has been down for so long that the supervisor has to give up.
func (r *recovery) isTooLong(now time.Time) bool {
	left, limited := r.left(now)
	if !limited || left > 0 {
		return false
	}
	r.log.Error("upgrade: supervisor: the service is down for too long: the supervisor ends",
		"down", r.outage.total(now).Round(time.Millisecond), "GiveUp", r.opts.GiveUp)
	return true
}

// restart returns the build to start now, from the field last or before of r.builds, and the report for the new process.
func (r *recovery) restart(now time.Time) (*process.Build, *Report) {
	r.restartAt = time.Time{}
	if r.outage.crashes >= 2 && r.builds.before != nil {
		r.outage.crashes = 0
		r.builds.change(r.opts.Guard)
	}
	b, kind := r.builds.next()
	p := r.crashed
	return b, &Report{
		Kind: kind, Started: now, At: now, Begun: sys.Uptime(), Committed: true, From: p.version, FromPID: p.pid,
		Reason: fmt.Sprintf("generation %d, version %s, pid %d, has ended after %v: %s", p.number, p.version,
			p.pid, p.lostAt.Sub(p.since()).Round(time.Millisecond), p.describe()),
	}
}

// restarted notes the result of a restart: if err is nil, the program runs.
func (r *recovery) restarted(err error, now time.Time) {
	if err == nil {
		r.outage.stuck = time.Time{}
		return
	}
	r.outage.unable(now)
	if errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.ELIBBAD) { // the file was changed: this counts as a crash
		r.outage.crashes++
	}
	r.log.Error("upgrade: supervisor: cannot start the service: it is tried again", "err", err)
}

// leastNumber is the number of the crashed generation; 0 if there is none. The next process gets a greater number.
func (r *recovery) leastNumber() int {
	if r.crashed == nil {
		return 0
	}
	return r.crashed.number
}
