package canary

import (
	"cmp"
	"net/http"

	"github.com/midair-go/midair/internal/request"
)

// A Router sends each request to the stable or to the canary handler. A Router has to be made by NewRouter or Middleware.
type Router struct {
	*rollout
	stable http.Handler // nil if there is none
}

var _ http.Handler = (*Router)(nil)

// A rollout is what the routers of a middleware share.
type rollout struct {
	opts     Options
	decider  decider
	answers  answers
	rescue   *rescuer  // nil without Options.Rescue
	sides    *sides    // nil without Options.Switch
	outcomes *observer // nil without Options.Begin, Observe and Bad
	canary   http.Handler
	arms     [2]arm // by Side
}

// NewRouter returns a Router between two handlers.
//
// For a release without a canary, canary may be nil or a nil http.HandlerFunc: every request goes to the stable handler, and
// the effective weight is 0. A nil stable handler answers 503.
func NewRouter(stable, canary http.Handler, opts Options) *Router {
	return newRollout(canary, opts).router(stable)
}

// Middleware returns a middleware that sends a share of the requests to newHandler and the others on to the wrapped handler. Each
// handler made by the middleware is a *Router. All of them together are one rollout, with one Status.
func Middleware(newHandler http.Handler, opts Options) func(http.Handler) http.Handler {
	ro := newRollout(newHandler, opts)
	return func(next http.Handler) http.Handler { return ro.router(next) }
}

func newRollout(canary http.Handler, opts Options) *rollout {
	ro := &rollout{opts: opts.withDefaults(), canary: canary}
	ro.decider.opts, ro.decider.asked.opts = &ro.opts, &ro.opts
	ro.decider.hasCanary = !isNone(canary)
	ro.answers.configure(&ro.opts)
	ro.rescue = newRescuer(&ro.opts, &ro.decider.asked)
	ro.outcomes = newObserver(&ro.opts, &ro.decider.asked)
	ro.arms[Canary].side = Canary
	if s := ro.opts.Switch; s != nil {
		ro.sides = &s.sides
		ro.sides.add(&ro.arms)
	}
	return ro
}

func (ro *rollout) router(stable http.Handler) *Router {
	if isNone(stable) {
		stable = nil
	}
	return &Router{ro, stable}
}

func isNone(h http.Handler) bool {
	f, ok := h.(http.HandlerFunc)
	return h == nil || ok && f == nil
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no handler", http.StatusServiceUnavailable)
}

// ServeHTTP passes the request to the handler of the chosen side.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d := rt.begin(r)
	if d.basis != 0 || d.visit != nil || rt.opts.SideInContext || rt.outcomes != nil {
		rt.share(w, r, d)
		return
	}
	rt.serve(w, r, d)
}

// serve passes a request with what the router adds to it to its handler.
func (rt *Router) serve(w http.ResponseWriter, r *http.Request, d decision) {
	if d.side == Canary && rt.rescue != nil && rt.stable != nil {
		if twice := rt.mayRunTwice(r); twice || rt.rescue.Unserved {
			t := try{router: rt, w: w, r: r, twice: twice}
			t.serve(&d)
			return
		}
	}
	rt.run(w, r, d.side, &d, 0)
}

// run passes a request, which is counted as begun, to the handler of a side.
func (rt *Router) run(w http.ResponseWriter, r *http.Request, side Side, d *decision, flags OutcomeFlags) {
	if rt.outcomes == nil {
		rt.call(w, r, side, d.forced && flags&SecondTry == 0)
		return
	}
	ob := rt.outcomes.begin(w, r, &rt.arms[side], d, flags)
	defer ob.end()
	rt.call(w, r, side, d.forced && flags&SecondTry == 0)
	ob.returned = true
}

// call calls the handler of a side.
func (rt *Router) call(w http.ResponseWriter, r *http.Request, side Side, forced bool) {
	h := rt.canary
	if side == Stable {
		h = rt.stable
	}
	if h == nil {
		h = http.HandlerFunc(unavailable)
	}
	rt.arms[side].serve(h, w, r, forced)
}

// mayRunTwice reports whether a request of the canary, which is counted as begun, may run twice.
func (rt *Router) mayRunTwice(r *http.Request) (may bool) {
	returned := false
	defer func() {
		if !returned { // Rescue.Also has ended the goroutine
			rt.arms[Canary].giveUp()
		}
	}()
	may = rt.rescue.eligible(r)
	returned = true
	return may
}

// begin decides a request, and counts it as begun on its side. A request that begins on a side which the Switch has left meanwhile
// is decided again: none comes there after Idle has looked.
func (rt *Router) begin(r *http.Request) decision {
	if rt.sides == nil {
		d := rt.decider.decide(r)
		rt.arms[d.side].begun.Add(1)
		return d
	}
	for {
		green := rt.sides.green.Load()
		d := rt.decider.decide(r)
		rt.arms[d.side].begun.Add(1)
		if rt.sides.green.Load() == green {
			return d
		}
		rt.arms[d.side].giveUp()
	}
}

// share serves a request whose context or answer has something of the router. The router uses a free Slot, or the Writer, of a
// middleware further out.
func (rt *Router) share(w http.ResponseWriter, r *http.Request, d decision) {
	slot, writer := rt.answers.missing(w, r, d)
	if slot != nil {
		outer := r
		r = slot.Init(outer, cmp.Or(writer, request.WriterOf(w)))
		rt.answers.fill(slot, d)
		defer slot.Finish(outer)
	}
	if writer != nil {
		w = writer.Wrap(w)
		rt.answers.hook(writer, d)
		defer writer.Finish()
	}
	rt.serve(w, r, d)
}
