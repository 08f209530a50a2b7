package rollout

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/sys"
)

// A route is what is known of a request for the evidence: how it came to its side.
type route struct {
	unit   string
	weight float64
	canary bool
	drawn  bool // chance has decided the side
}

// routeOf returns the route of a request of a Router. It is inlined where the unit does not escape, and allocates nothing there.
func routeOf(o *canary.Outcome) route {
	return route{unit: o.Unit(), weight: o.Weight, canary: o.Side == canary.Canary, drawn: o.Drawn()}
}

// A recorder passes the outcomes of requests to the judge. Begin and Observe of a Rollout are its methods.
type recorder struct {
	opts     *Options
	evidence *judge.Analysis
	changed  func(canary.Outcome) // called if the verdict may be another one, with the outcome of a request or the zero Outcome
	running  *running
	clock    clock
	warm     atomic.Int64 // until when the canary warms up, by clock
	panicked sync.Once    // a function of the options has panicked: the first panic is logged
}

func newRecorder(opts *Options, evidence *judge.Analysis) *recorder {
	r := &recorder{opts: opts, evidence: evidence, running: newRunning(), clock: newClock()}
	r.warm.Store(math.MaxInt64) // until the rollout begins
	return r
}

// ignored is the slot of requests that count nowhere.
var ignored = new(slot)

// begin is Begin of a Rollout.
func (r *recorder) begin(o canary.Outcome) any {
	if r.ignores(o.Request) {
		return ignored
	}
	if to := routeOf(&o); to.drawn {
		r.assigned(to, o.Start)
	}
	return r.running.begin(r, o, route{})
}

func (r *recorder) assigned(to route, start time.Time) {
	if r.evidence.Assigned(to.unit, to.weight, to.canary, r.clock.at(start)) {
		r.changed(canary.Outcome{})
	}
}

// observe is Observe of a Rollout.
func (r *recorder) observe(o canary.Outcome) {
	var reported time.Duration
	switch s, _ := o.Begun.(*slot); {
	case s == ignored, s == nil && r.ignores(o.Request):
		return
	case s != nil:
		_, reported = s.end()
	}
	r.ended(o, routeOf(&o), reported)
}

// ended counts an outcome. The second try of a rescued request is no outcome of its own: the canary has failed, and the request
// would not have come to stable.
func (r *recorder) ended(o canary.Outcome, to route, reported time.Duration) {
	switch {
	case o.Has(canary.SecondTry):
		return
	case o.Has(canary.Forced):
		r.evidence.LeaveOut(to.canary)
		return
	case !to.drawn:
		to.weight = 0 // a good outcome of stable still says how long a request takes
	}
	if r.warmsUp(o.Start) {
		reported = math.MaxInt64 // nothing is slow
	}
	if r.evidence.Observe(judge.Outcome{
		Unit: to.unit, Weight: to.weight, Canary: to.canary, Result: r.result(o),
		Began: r.clock.at(o.Start), Took: o.Duration, Reported: reported,
	}) {
		r.changed(o)
	}
}

// warmsUp reports whether the latency of a request that begins at a time says nothing.
func (r *recorder) warmsUp(start time.Time) bool {
	return r.opts.WarmUp > 0 && int64(r.clock.at(start)) < r.warm.Load()
}

func (r *recorder) result(o canary.Outcome) judge.Result {
	switch {
	case o.Has(canary.Panicked):
		return judge.Panicked
	case r.bad(o):
		return judge.Bad
	}
	return judge.Good
}

// bad returns what Options.Bad says about an outcome, or what Outcome.Failed says if the function has panicked: otherwise a canary
// whose outcomes make the function panic would have no bad ones.
func (r *recorder) bad(o canary.Outcome) (bad bool) {
	bad = o.Failed()
	defer r.caught("Bad")
	return r.opts.Bad(o)
}

// ignores returns what Options.Ignore says about a request. After a panic the request counts.
func (r *recorder) ignores(req *http.Request) (yes bool) {
	if r.opts.Ignore == nil {
		return false
	}
	defer r.caught("Ignore")
	return r.opts.Ignore(req)
}

// caught is deferred, and ends a panic of a function of the options.
func (r *recorder) caught(name string) {
	if p := recover(); p != nil {
		r.panicked.Do(func() {
			r.opts.Logger.Error("rollout: Options."+name+" has panicked; later panics are not logged",
				slog.String("name", r.opts.Name), slog.String("panic", fmt.Sprint(p)))
		})
	}
}

// reportRunning counts requests that have not ended within a threshold of the latency.
func (r *recorder) reportRunning(now time.Time) {
	thresholds := r.evidence.Thresholds()
	if len(thresholds) == 0 {
		return
	}
	changed := false
	r.running.report(now, thresholds, func(s *slot, took time.Duration) {
		to := s.route
		if !to.drawn {
			to = routeOf(&s.out)
		}
		if to.drawn && !r.warmsUp(s.out.Start) && r.evidence.Observe(judge.Outcome{
			Unit: to.unit, Weight: to.weight, Canary: to.canary, Began: r.clock.at(s.out.Start),
			Took: took, Running: true, Reported: s.reported,
		}) {
			changed = true
		}
	})
	if changed {
		r.changed(canary.Outcome{})
	}
}

// beginsWarmUp is called just before the canary gets its first weight.
func (r *recorder) beginsWarmUp() { r.warm.Store(int64(r.clock.at(time.Now().Add(r.opts.WarmUp)))) }

// A clock gives times that are the same in all processes of a host, and that nobody sets: since the start of the host.
type clock struct {
	anchor time.Time
	uptime time.Duration // at the time anchor
}

func newClock() clock { return clock{time.Now(), sys.Uptime()} }

func (c clock) at(t time.Time) time.Duration { return c.uptime + t.Sub(c.anchor) }
