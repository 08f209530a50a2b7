package canary

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/midair-go/midair/internal/request"
)

// An observer passes outcomes to the functions of the options, and counts them.
type observer struct {
	opts  *Options
	asked *asked
	sides [2]tally
}

// newObserver returns nil if nobody looks at outcomes.
func newObserver(o *Options, a *asked) *observer {
	if !o.observed() {
		return nil
	}
	ob := &observer{opts: o, asked: a}
	for side := range ob.sides {
		ob.sides[side].shards = newShards()
	}
	return ob
}

// An observation is the outcome of a handler that still runs. Without an observer, its methods do nothing.
type observation struct {
	*observer
	ctx      context.Context
	writer   *request.Writer
	before   int64 // how many bytes the writer had before
	returned bool  // the handler has returned
	out      Outcome
}

// begin is called before a handler gets a request that the arm has counted as begun. The Writer of w is that of the handler's
// answer.
func (ob *observer) begin(w http.ResponseWriter, r *http.Request, a *arm, d *decision, flags OutcomeFlags) (o observation) {
	if ob == nil {
		return o
	}
	if d.forced && flags&SecondTry == 0 {
		flags |= Forced
	}
	writer := request.WriterOf(w)
	o = observation{
		observer: ob, ctx: r.Context(), writer: writer, before: writer.Bytes(),
		out: Outcome{Request: r, Side: a.side, Weight: d.weight, Flags: flags, Start: time.Now(), unit: d.unit},
	}
	if ob.opts.Begin != nil {
		o.tell(a)
	}
	return o
}

// tell calls Options.Begin. If the function ends the goroutine, no handler gets the request, and the arm no longer counts it.
func (ob *observation) tell(a *arm) {
	returned := false
	defer func() {
		if !returned {
			a.giveUp()
		}
	}()
	ob.out.Begun = ob.asked.begin(ob.out)
	returned = true
}

// end is deferred. A panic goes on with the same value.
func (ob *observation) end() {
	p := recover()
	ob.ended(p, ob.returned, false)
	if p != nil {
		panic(p)
	}
}

// ended makes the outcome: p is the value of the handler's panic, or nil. A handler that has neither returned nor panicked has ended
// its goroutine.
func (ob *observation) ended(p any, returned, rescued bool) {
	if ob.observer == nil {
		return
	}
	o := &ob.out
	o.Duration = time.Since(ob.out.Start)
	o.Status, o.Bytes = cmp.Or(ob.writer.Status(), ob.writer.Refused()), ob.writer.Bytes()-ob.before
	switch {
	case p == http.ErrAbortHandler || p == nil && !returned:
		o.Flags |= Aborted
	case p != nil:
		o.Flags |= Panicked
	case o.Status == 0:
		o.Status = http.StatusOK
	}
	switch err := ob.ctx.Err(); {
	case err == context.DeadlineExceeded || err != nil && deadlineNear(ob.ctx, o.Duration):
		o.Flags |= TimedOut
	case err != nil:
		o.Flags |= Canceled
	}
	if rescued {
		o.Flags |= Rescued
	}
	bad := ob.asked.bad(*o)
	ob.sides[o.Side].add(o, bad)
	if ob.opts.Observe != nil {
		ob.asked.observe(*o)
	}
}

// deadlineNear reports whether the deadline of a request that was canceled was over or near: a client of gRPC cancels the call at its
// own deadline, which passes at about the same time as that of the server.
func deadlineNear(ctx context.Context, ran time.Duration) bool {
	by, ok := ctx.Deadline()
	return ok && time.Until(by) <= 10*time.Millisecond+ran/50
}
