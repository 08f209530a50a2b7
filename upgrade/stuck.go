package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/upgrade/internal/listener"
)

// The watch over a serve that goes on after the end of its context. http.Serve goes on, for example, because it has no context.
// Without the watch, the process would answer on old connections for ever, and each upgrade would leave another such process.
// In three cases Run waits for serve:
//
//   - A server has called Draining on the cause of the context, and its drain has not ended. Package drain calls Draining, and
//     ends its drain within its option Grace.
//   - serve has closed a socket since its context ended, as http.Server.Shutdown and GracefulStop of gRPC do first. Such a
//     serve drains, and the program decides how long.
//   - serve has called Done or Err of its context, and no socket was open when the context ended. Such a serve finishes other
//     work.
//
// In all other cases Accept and ReadFrom return net.ErrClosed when Options.StuckAfter has passed. This ends most servers. If
// serve still goes on, Run returns one second later (lastMoment). But if serve closes a socket in this second, it perhaps
// begins a drain, and Run waits for another Options.StuckAfter.
//
// Accept must not fail earlier, and in particular not at the handover, for two reasons. Some servers return at once when Accept
// fails, and the requests that they are answering would end with the process. In other servers the failed Accept would race
// with a call of Shutdown.

// lastMoment is how long Run waits for serve after Accept has ended.
const lastMoment = time.Second

// saysStuck is the time from the end of serve's context, or from the end of a drain, until Run logs that serve goes on. If
// Options.StuckAfter is less than ten seconds, Run logs this after half of Options.StuckAfter.
const saysStuck = 5 * time.Second

// watched is serve's context. It notes whether Done or Err was called.
type watched struct {
	context.Context
	asked *atomic.Bool
}

func (c watched) Done() <-chan struct{} { c.note(); return c.Context.Done() }

func (c watched) Err() error { c.note(); return c.Context.Err() }

func (c watched) note() {
	if !c.asked.Load() { // the value is written only once, because many requests may use the context
		c.asked.Store(true)
	}
}

// ending is the cause of the end of serve's context: context.Cause returns it.
type ending struct {
	reason   string
	handover bool
	drains
}

func (e *ending) Error() string { return "upgrade: " + e.reason }

// Handover reports whether another generation serves on. If so, load balancers need no notice of the end of this process.
func (e *ending) Handover() bool { return e.handover }

// drains is the part of an ending that counts the servers that drain.
type drains struct{ now atomic.Int32 }

// Draining notes that a server of the program drains. The server has to call the function ended at the end of the drain.
// Package drain calls Draining and Handover on the cause of serve's context.
func (d *drains) Draining() (ended func()) {
	d.now.Add(1)
	return sync.OnceFunc(func() { d.now.Add(-1) })
}

// overrun is the watch over a serve whose context has ended. Only the goroutine of Run uses it.
type overrun struct {
	asked atomic.Bool // serve has called Done or Err of its context

	limit  time.Duration // Options.StuckAfter
	drains *drains
	open   []*listener.Socket // the sockets that were open when the context ended
	end    func()             // makes Accept and ReadFrom return net.ErrClosed
	log    *slog.Logger

	since  time.Time   // the last time at which a server was known to drain; before that, the end of the context
	timer  *time.Timer // gives the time of the next look; nil before the end of the context
	said   bool        // say has logged the problem
	partly bool        // look has logged that Run waits for serve although StuckAfter has passed
	wrong  string      // the problem that made look call end; empty: end was not called
}

func (o *overrun) watch(ctx context.Context) context.Context { return watched{ctx, &o.asked} }

// begin is called when serve's context ends.
func (o *overrun) begin(d *drains, set *listener.Set, limit time.Duration, log *slog.Logger) {
	o.drains, o.open, o.end, o.limit, o.log, o.since = d, set.Refs(), set.End, limit, log, time.Now()
	o.timer = time.NewTimer(o.pause())
}

// returned is called when serve has returned, with the error of serve. The result is the same error. But if the error is
// net.ErrClosed because look has ended Accept, the result also has an explanation.
func (o *overrun) returned(err error) error {
	if o.timer != nil {
		o.timer.Stop()
	}
	if o.wrong != "" && errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%w: it has returned because Accept did: %w", ErrServeStuck, err)
	}
	return err
}

// pause returns the time between two calls of look.
func (o *overrun) pause() time.Duration {
	if o.limit > 0 {
		return min(time.Second, max(o.limit/10, time.Millisecond))
	}
	return time.Second
}

// due returns the channel of the timer; nil before the end of the context.
func (o *overrun) due() <-chan time.Time {
	if o.timer == nil {
		return nil
	}
	return o.timer.C
}

// problem describes why serve seems to be stuck. The result is "" if serve is known to drain or to finish other work.
func (o *overrun) problem() string {
	switch {
	case slices.ContainsFunc(o.open, (*listener.Socket).Closed):
		return ""
	case !o.asked.Load():
		return "nothing in it has asked whether its context has ended"
	case len(o.open) == 0:
		return ""
	}
	return "it has closed none of its sockets, and is not package drain"
}

// look looks at a serve that has not returned. If look returns an error, Run waits no longer and returns this error.
func (o *overrun) look() error {
	o.timer.Reset(o.pause())
	if o.drains.now.Load() > 0 {
		o.since = time.Now()
		return nil
	}
	late, problem := time.Since(o.since), o.problem()
	says := saysStuck
	if o.limit > 0 {
		says = min(says, o.limit/2)
	}
	if problem != "" && !o.said && late >= says {
		o.said = true
		o.say(late, problem)
	}
	switch {
	case o.limit < 0 || late < o.limit:
	case o.wrong == "" && problem == "": // serve drains, or finishes other work
		if !o.partly {
			o.partly = true
			o.log.Warn("upgrade: serve goes on after the end of its context, and is waited for: it has closed a socket, or has none",
				"since", late.Round(time.Millisecond), "open", o.sockets())
		}
	case o.wrong == "":
		o.wrong = problem
		o.end()
	case late >= o.limit+lastMoment && problem != "" || late >= 2*o.limit+lastMoment:
		o.timer.Stop()
		late = late.Round(time.Millisecond)
		return fmt.Errorf("%w: %v after the end of its context it has not returned: %s", ErrServeStuck, late, o.wrong)
	}
	return nil
}

func (o *overrun) say(late time.Duration, problem string) {
	ends := "never: Options.StuckAfter is negative"
	if o.limit > 0 {
		ends = fmt.Sprintf("in %v, and Run with it: Options.StuckAfter", (o.limit - late).Round(time.Millisecond))
	}
	o.log.Error("upgrade: serve goes on although its context has ended, and so does this process: "+
		"end the server with that context, by package drain, http.Server.Shutdown or GracefulStop of gRPC",
		"since", late.Round(time.Millisecond), "problem", problem, "open", o.sockets(), "accept_ends", ends)
}

// sockets names the open sockets.
func (o *overrun) sockets() string {
	var names []string
	for _, s := range o.open {
		if !s.Closed() {
			names = append(names, s.Network+" "+s.Addr)
		}
	}
	return strings.Join(names, ", ")
}
