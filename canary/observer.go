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

// newObserver returns nil if Options has neither Observe nor Bad.
func newObserver(o *Options, a *asked) *observer {
	if o.Observe == nil && o.Bad == nil {
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
	begun    time.Time
	returned bool // the handler has returned
	out      Outcome
}

// begin is called before a handler gets a request. The Writer of w is that of the handler's answer.
func (ob *observer) begin(w http.ResponseWriter, r *http.Request, side Side, d *decision, flags OutcomeFlags) observation {
	if ob == nil {
		return observation{}
	}
	if d.forced && flags&SecondTry == 0 {
		flags |= Forced
	}
	writer := request.WriterOf(w)
	return observation{
		observer: ob, ctx: r.Context(), writer: writer, before: writer.Bytes(), begun: time.Now(),
		out: Outcome{Request: r, Side: side, Weight: d.weight, Flags: flags},
	}
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
	o.Duration = time.Since(ob.begun)
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
