package canary

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/midair-go/midair/internal/cohort"
)

// A Router sends each request to one of two handlers. It has to be made by NewRouter or Middleware.
type Router struct {
	opts Options
	arms [2]arm // by Side
}

var _ http.Handler = (*Router)(nil)

// NewRouter returns a Router between two handlers.
//
// A canary that is nil, or a nil http.HandlerFunc, is none: every request goes to the stable handler and the effective
// weight is 0. That suits a release without a canary. A stable handler that is nil answers 503.
func NewRouter(stable, canary http.Handler, opts Options) *Router {
	rt := &Router{opts: opts.withDefaults()}
	rt.arms[Stable].handler = stable
	rt.arms[Canary].handler = canary
	if missing(stable) {
		rt.arms[Stable].handler = http.HandlerFunc(unavailable)
	}
	if missing(canary) {
		rt.arms[Canary].handler = nil
	}
	return rt
}

// Middleware returns a middleware that sends a share of the requests to newHandler and the others on to the handler
// that it wraps. The handler it returns is a *Router.
func Middleware(newHandler http.Handler, opts Options) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler { return NewRouter(next, newHandler, opts) }
}

func missing(h http.Handler) bool {
	f, ok := h.(http.HandlerFunc)
	return h == nil || ok && f == nil
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no handler", http.StatusServiceUnavailable)
}

// ServeHTTP passes the request to the handler of its side, with the ResponseWriter as it is.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	side, forced := rt.decide(w, r)
	if rt.opts.SideInContext {
		r = r.WithContext(context.WithValue(r.Context(), sideKey{}, side))
	}
	rt.arms[side].serve(w, r, forced)
}

// decide tells the side of a request, and whether the request has chosen it. It may add a cookie to the answer.
func (rt *Router) decide(w http.ResponseWriter, r *http.Request) (side Side, forced bool) {
	if rt.arms[Canary].handler == nil {
		return Stable, false
	}
	if side, forced = rt.chosen(r.Header); forced {
		return side, true
	}
	weight := rt.opts.Weight()
	if weight >= 1 || weight > 0 && rt.draw(w, r, weight) {
		return Canary, false
	}
	return Stable, false
}

// chosen tells the side that the header asks for.
func (rt *Router) chosen(h http.Header) (side Side, ok bool) {
	if rt.opts.Header == "" {
		return Stable, false
	}
	values := h[rt.opts.Header]
	if len(values) == 0 {
		return Stable, false
	}
	switch {
	case strings.EqualFold(values[0], "true"):
		return Canary, true
	case strings.EqualFold(values[0], "false"):
		return Stable, true
	}
	return Stable, false
}

// draw tells whether the request is in the share of weight, which is between 0 and 1.
func (rt *Router) draw(w http.ResponseWriter, r *http.Request, weight float64) bool {
	if rt.opts.Key != nil {
		if key := rt.opts.Key(r); key != "" {
			return cohort.In(rt.opts.Salt, key, weight)
		}
	}
	if rt.opts.Cookie != nil {
		id := rt.opts.Cookie.visitor(w, r)
		return cohort.In(rt.opts.Salt, string(id[:]), weight)
	}
	return rand.Float64() < weight
}
