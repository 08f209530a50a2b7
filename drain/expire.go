package drain

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// How long each step of the escalation is given. A step comes only to what the step before did not end.
const (
	cancelTime   = 250 * time.Millisecond
	deadlineTime = 100 * time.Millisecond
	halfTime     = 100 * time.Millisecond
	// lastTime is how long accept loops and handlers have to return after the last step.
	lastTime = 500 * time.Millisecond
)

// An expiry ends what is left when Grace has run out.
type expiry struct {
	http      *http.Server
	course    *course
	registry  *registry
	journal   *journal
	listeners *listeners

	left       []Entry
	unfinished []unfinished
}

// An unfinished is a connection or a job that went on when Grace had run out, with its place in the list.
type unfinished struct {
	item interface {
		escalate(step string) (done string)
	}
	at int
}

// run ends connections and jobs step by step. All accept loops have ended before run lists the connections. If Shutdown
// was not called before (told), run calls Shutdown, so that the functions of RegisterOnShutdown start.
func (x *expiry) run(ctx context.Context, told bool, grace time.Duration) error {
	x.journal.enter(expired)
	for _, l := range x.listeners.list() {
		l.stop()
	}
	x.await(lastTime, func() bool { return len(x.listeners.list()) == 0 })
	x.registry.close(true)
	x.list()
	if !told {
		x.http.Shutdown(ctx)
	}
	for _, step := range []struct {
		action string
		wait   time.Duration
	}{{stepCancel, cancelTime}, {stepDeadline, deadlineTime}, {stepHalfClose, halfTime}, {stepClose, 0}} {
		if len(x.unfinished) > 0 {
			x.step(step.action, step.wait)
		}
	}
	x.journal.enter(cutting)
	for _, c := range x.registry.list() {
		c.cut()
	}
	x.http.Close()
	x.await(lastTime, x.registry.empty)
	x.log()
	x.journal.cut(x.left)
	if len(x.left) == 0 {
		return nil
	}
	return &TimeoutError{Grace: grace, Left: x.left}
}

// step takes a step against everything unfinished, and waits for the effect.
func (x *expiry) step(action string, wait time.Duration) {
	for _, u := range x.unfinished {
		if done := u.item.escalate(action); done != "" {
			x.left[u.at].Action = done
		}
	}
	if wait > 0 {
		x.await(wait, x.registry.empty)
	}
}

// list lists the jobs, and the connections on which something goes on.
func (x *expiry) list() {
	for _, c := range x.registry.list() {
		if c.working() {
			for _, e := range c.entries(nil) {
				x.unfinished = append(x.unfinished, unfinished{c, len(x.left)})
				x.left = append(x.left, e)
			}
		}
	}
	for _, j := range x.registry.listJobs() {
		x.unfinished = append(x.unfinished, unfinished{j, len(x.left)})
		x.left = append(x.left, j.entry())
	}
}

// await waits until something is done, for some time at most. The registry wakes await.
func (x *expiry) await(limit time.Duration, done func() bool) {
	t := time.NewTimer(limit)
	defer t.Stop()
	for !done() {
		select {
		case <-x.registry.wake:
		case <-t.C:
			return
		}
	}
}

// log names what was left.
func (x *expiry) log() {
	for _, e := range x.left[:min(len(x.left), listed)] {
		x.course.logger.Warn("drain: it did not end in time",
			slog.String("protocol", e.Protocol), slog.String("remote", e.Remote), slog.String("state", e.State),
			slog.Duration("for", time.Since(e.Since)), slog.String("name", e.Name), slog.String("action", e.Action))
	}
	if more := len(x.left) - listed; more > 0 {
		x.course.logger.Warn("drain: more did not end in time", slog.Int("more", more))
	}
}
