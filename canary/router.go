package canary

import (
	"cmp"
	"net/http"

	"github.com/midair-go/midair/internal/request"
)

// A Router sends each request to the stable or to the canary handler. A Router has to be made by NewRouter or Middleware.
type Router struct {
	opts    Options
	decider decider
	answers answers
	rescue  *rescuer // nil without Options.Rescue
	sides   *sides   // nil without Options.Switch
	arms    [2]arm   // by Side
}

var _ http.Handler = (*Router)(nil)

// NewRouter returns a Router between two handlers.
//
// For a release without a canary, canary may be nil or a nil http.HandlerFunc: every request goes to the stable handler, and
// the effective weight is 0. A nil stable handler answers 503.
func NewRouter(stable, canary http.Handler, opts Options) *Router {
	rt := &Router{opts: opts.withDefaults()}
	rt.decider.opts, rt.decider.asked.opts = &rt.opts, &rt.opts
	rt.answers.configure(&rt.opts)
	rt.arms[Stable].handler = stable
	rt.arms[Canary].handler = canary
	if isNone(stable) {
		rt.arms[Stable].handler = http.HandlerFunc(unavailable)
	}
	rt.decider.hasCanary = !isNone(canary)
	if !isNone(stable) {
		rt.rescue = newRescuer(&rt.opts, &rt.decider.asked)
	}
	rt.arms[Canary].side = Canary
	if s := rt.opts.Switch; s != nil {
		rt.sides = &s.sides
		rt.sides.add(&rt.arms)
	}
	return rt
}

// Middleware returns a middleware that sends a share of the requests to newHandler and the others on to the wrapped handler.
// The handler made by the middleware is a *Router.
func Middleware(newHandler http.Handler, opts Options) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler { return NewRouter(next, newHandler, opts) }
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
	if d.basis != 0 || d.visit != nil || rt.opts.SideInContext {
		rt.share(w, r, d)
		return
	}
	rt.serve(w, r, d)
}

// serve passes a request with what the router adds to it to its handler.
func (rt *Router) serve(w http.ResponseWriter, r *http.Request, d decision) {
	if d.side == Canary && rt.rescue != nil && rt.rescue.eligible(r) {
		t := try{router: rt, w: w, r: r}
		t.serve(d)
		return
	}
	rt.arms[d.side].serve(w, r, d.forced)
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
