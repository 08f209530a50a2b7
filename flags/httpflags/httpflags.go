// Package httpflags says for whom flags are evaluated in an HTTP request, and gives the request the values of a single moment.
//
//	handler := httpflags.Middleware(ff, func(r *http.Request) (string, map[string]any) {
//		return userID(r), map[string]any{"plan": plan(r)}
//	})(mux)
//
// A program without HTTP does not get net/http by its flags, because package flags does not import httpflags.
package httpflags

import (
	"context"
	"net/http"
	"sync"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/internal/moment"
	"github.com/midair-go/midair/internal/request"
	"github.com/open-feature/go-sdk/openfeature"
)

func init() {
	moment.InServer = func(ctx context.Context) bool { return ctx.Value(http.ServerContextKey) != nil }
}

// Middleware returns a middleware that says for whom flags are evaluated in a request, as flags.Flags.With does for a context:
// percentages go by key, and rules can ask for attrs. A With further in outranks the middleware. Attributes of the context before
// the request stay, unless attrs has the same names. All evaluations by f in a request see the values at the start of the request.
//
// The function who is called at most once for each request, by the first evaluation with targeting, from any goroutine. So the
// function may read expensive things, such as the cohort of a session, which sets a cookie. If the function panics, flags are
// evaluated without a key and attributes; such a panic counts as an error in Status and is logged once. Flags in the function
// itself are evaluated with the context before the request.
//
// Behind a session.Manager, a canary.Router with SideInContext or another Middleware, the middleware shares the context of the
// other, and costs a single allocation.
func Middleware(f *flags.Flags, who func(*http.Request) (key string, attrs map[string]any)) func(http.Handler) http.Handler {
	source := moment.Of(f)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slot, _ := request.Shared(w, r); slot != nil && slot.Get(request.Flags) == nil {
				s := &subject{source: source, key: source.Key(), who: who, r: r}
				s.pin = source.Pin(r.Context(), &s.own)
				if slot.Set(request.Flags, s) {
					next.ServeHTTP(w, r)
					return
				}
			}
			a := &struct {
				request.Slot
				subject
			}{}
			inner := a.Slot.Init(r, nil)
			a.subject.source, a.subject.key, a.subject.who, a.subject.r = source, source.Key(), who, inner
			a.subject.pin = source.Pin(r.Context(), &a.subject.own)
			a.Slot.Set(request.Flags, &a.subject)
			defer a.Slot.Finish(r)
			next.ServeHTTP(w, inner)
		})
	}
}

// A subject is for whom flags are evaluated in a request, and of which moment.
type subject struct {
	source moment.Source
	key    any // of the Pin
	who    func(*http.Request) (string, map[string]any)
	r      *http.Request
	own    moment.Pin
	pin    *moment.Pin // own, or the Pin of a context further out

	once sync.Once
	ec   any // an openfeature.EvaluationContext
}

// asking is the context of the request that a function of Middleware gets. Flags that the function evaluates are evaluated for
// whom the context outside of the Middleware says: the function itself has not said anything yet.
type asking struct {
	context.Context
	outer context.Context
}

func (a *asking) Value(key any) any {
	if key == transactionKey {
		return a.outer.Value(key)
	}
	return a.Context.Value(key)
}

// transactionKey is the key of the transaction context of OpenFeature, which its package does not export: a context that is
// asked for the transaction context sees the key.
var transactionKey = func() any {
	p := &probe{Context: context.Background()}
	openfeature.TransactionContext(p)
	return p.key
}()

type probe struct {
	context.Context
	key any
}

func (p *probe) Value(key any) any {
	p.key = key
	return nil
}

// ContextValue answers the SDK, which asks for the transaction context, and evaluations, which also ask for the Pin.
func (s *subject) ContextValue(key any, outer context.Context) any {
	if key == s.key {
		return s.pin
	}
	if key != transactionKey {
		return nil
	}
	s.once.Do(func() { s.ec = s.evaluationContext(outer) })
	return s.ec
}

func (s *subject) evaluationContext(outer context.Context) (ec openfeature.EvaluationContext) {
	ec = openfeature.TransactionContext(outer)
	defer func() {
		if p := recover(); p != nil {
			s.source.Panicked(p)
		}
	}()
	key, attrs := s.who(s.r.WithContext(&asking{s.r.Context(), outer}))
	ctx := openfeature.MergeTransactionContext(outer, openfeature.NewEvaluationContext(key, attrs))
	return openfeature.TransactionContext(ctx)
}
