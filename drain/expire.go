package drain

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// How long each step of the escalation waits before the next step. A step is taken only against what the step before did not
// end.
const (
	cancelTime   = 250 * time.Millisecond
	deadlineTime = 100 * time.Millisecond
	halfTime     = 100 * time.Millisecond
	// lastTime limits two waits: for the accept loops before the first step, and for the handlers after the last step.
	lastTime = 500 * time.Millisecond
)

// An expiry ends the connections and jobs that are left when Grace has run out.
type expiry struct {
	http      *http.Server
	course    *course
	registry  *registry
	journal   *journal
	listeners *listeners

	left       []Entry
	unfinished []unfinished
}

// An unfinished is a connection or a job that was in use when Grace had run out. Its field at is the index of an Entry:
// expiry.left[at] is the Entry of the item.
type unfinished struct {
	item interface {
		escalate(step string) (done string)
	}
	at int
}

// run ends connections and jobs step by step. Before run lists the connections, it ends all accept loops. If told is false,
// Shutdown was not called yet: run then calls Shutdown, so that the functions of RegisterOnShutdown start.
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
	x.address()
	x.log()
	x.journal.cut(x.left)
	if len(x.left) == 0 {
		return nil
	}
	return &TimeoutError{Grace: grace, Left: x.left}
}

// step takes a step (the parameter action) against everything unfinished, and waits until the registry is empty, but no longer
// than wait.
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

// list lists the jobs, and the connections that are in use. The addresses of the clients are still missing: see address.
func (x *expiry) list() {
	for _, c := range x.registry.list() {
		if c.working() {
			for _, e := range c.entries(nil, "") {
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

// address adds the addresses of the clients to the entries. It is called when all connections are closed, because a RemoteAddr
// may wait for bytes of the client as long as the connection is open.
func (x *expiry) address() {
	for _, u := range x.unfinished {
		if c, ok := u.item.(*conn); ok {
			x.left[u.at].Remote = c.remote()
		}
	}
}

// await waits until done returns true, but no longer than limit. Each signal of the registry causes a call of done.
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

// log logs the first entries that were left, and the number of the others.
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
