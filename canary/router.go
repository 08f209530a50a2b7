package canary

import (
	"cmp"
	"math/rand/v2"
	"net/http"

	"github.com/midair-go/midair/internal/cohort"
	"github.com/midair-go/midair/internal/killswitch"
	"github.com/midair-go/midair/internal/request"
)

// A Router sends each request to the stable or to the canary handler. A Router has to be made by NewRouter or Middleware.
type Router struct {
	opts    Options
	asked   asked
	answers answers
	rescue  *rescuer // nil without Options.Rescue
	arms    [2]arm   // by Side
}

var _ http.Handler = (*Router)(nil)

// NewRouter returns a Router between two handlers.
//
// For a release without a canary, canary may be nil or a nil http.HandlerFunc: every request goes to the stable handler, and
// the effective weight is 0. A nil stable handler answers 503.
func NewRouter(stable, canary http.Handler, opts Options) *Router {
	rt := &Router{opts: opts.withDefaults()}
	rt.asked.opts = &rt.opts
	rt.answers.configure(&rt.opts)
	rt.arms[Stable].handler = stable
	rt.arms[Canary].handler = canary
	if isNone(stable) {
		rt.arms[Stable].handler = http.HandlerFunc(unavailable)
	}
	if isNone(canary) {
		rt.arms[Canary].handler = nil
	}
	if !isNone(stable) {
		rt.rescue = newRescuer(&rt.opts, &rt.asked)
	}
	rt.arms[Canary].side = Canary
	if s := rt.opts.Switch; s != nil {
		rt.arms[Stable].turn, rt.arms[Canary].turn = s, s
		s.add(rt)
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
		rt.try(w, r, d)
		return
	}
	rt.arms[d.side].serve(w, r, d.forced)
}

// begin decides a request, and counts it as begun on its side. A request that begins on a side which the Switch has left meanwhile
// is decided again: none comes there after Idle has looked.
func (rt *Router) begin(r *http.Request) decision {
	turn := rt.opts.Switch
	if turn == nil {
		d := rt.decide(r)
		rt.arms[d.side].begun.Add(1)
		return d
	}
	for {
		green := turn.green.Load()
		d := rt.decide(r)
		rt.arms[d.side].begun.Add(1)
		if turn.green.Load() == green {
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

// A decision is the side of a request, with the consequences for the answer.
type decision struct {
	side   Side
	forced bool   // Options.Choose has chosen the side
	basis  basis  // what caches have to be told that the side depends on
	visit  *visit // the answer has to set its cookie; nil if there is none to set
}

// decide returns the side of a request.
func (rt *Router) decide(r *http.Request) (d decision) {
	if rt.arms[Canary].handler == nil || rt.opts.Kill.word() != killswitch.Open {
		return d
	}
	if rt.opts.Choose != nil {
		d.side, d.forced, d.basis = rt.choose(r)
	}
	var weight float64
	if !d.forced {
		weight, _ = rt.asked.weight() // 0 after a panic
	}
	drawn := weight > 0 && weight < 1
	switch same := rt.opts.SameForAll != nil && (drawn || d.basis != 0) && rt.asked.sameForAll(r); {
	case same:
		d.basis = 0
		drawn = drawn && rand.Float64() < weight
	case drawn:
		drawn = rt.draw(r, weight, &d)
	}
	if drawn || weight >= 1 {
		d.side = Canary
	}
	if !cacheable(r.Method) {
		d.basis = 0
	}
	return d
}

// draw reports whether the request is in the share of weight, which is between 0 and 1.
func (rt *Router) draw(r *http.Request, weight float64, d *decision) bool {
	if rt.opts.Key != nil {
		key, basis, ok := rt.key(r)
		d.basis |= basis
		if !ok {
			return false
		}
		if key != "" {
			return cohort.In(rt.opts.Salt, key, weight)
		}
	}
	if rt.opts.Cookie != nil {
		id, visit, ok := rt.opts.Cookie.visitor(r)
		d.basis |= onCookie
		d.visit = visit
		if ok {
			return cohort.In(rt.opts.Salt, string(id[:]), weight)
		}
	}
	d.basis |= onChance
	return rand.Float64() < weight
}

// key returns the key of the request and the basis of the key, and false if Options.Key has panicked.
func (rt *Router) key(r *http.Request) (string, basis, bool) {
	before := rt.notes(r)
	key, ok := rt.asked.key(r)
	if !ok {
		return "", onChance, false
	}
	return key, rt.since(r, before), true
}

// choose returns what Options.Choose returns, and what that depends on.
func (rt *Router) choose(r *http.Request) (Side, bool, basis) {
	before := rt.notes(r)
	side, forced := rt.asked.choose(r)
	if rt.opts.Vary != nil && len(rt.opts.Vary) == 0 {
		return side, forced, 0
	}
	return side, forced, rt.since(r, before)
}

// notes returns how often a cookie was read for the request, by packages that say so.
func (rt *Router) notes(r *http.Request) uint32 {
	if len(rt.opts.Vary) > 0 || request.From(r.Context()) == nil {
		return 0
	}
	return request.CookieNotes(r.Context())
}

// since returns what a function of the options depends on that was called after notes.
func (rt *Router) since(r *http.Request, before uint32) basis {
	switch {
	case len(rt.opts.Vary) > 0:
		return onVary
	case rt.notes(r) != before:
		return onCookie
	}
	return onChance
}
