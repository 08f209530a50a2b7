package flags

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/midair-go/midair/internal/request"
	"github.com/open-feature/go-sdk/openfeature"
)

// Middleware returns a middleware that says for whom flags are evaluated in a request, as With does for a context: key is what
// percentages go by, and attrs are what rules can ask for. What With says further in outranks it, and what the context said
// before stays where who says nothing.
//
// The function who is called at most once for each request, by the first evaluation that needs it, from any goroutine. So it may
// read what costs something, such as the cohort of a session, which sets a cookie. If who panics, flags are evaluated for nobody;
// this counts as one error in Status and is logged once. Flags that who itself evaluates are evaluated for whom the context said
// before.
//
// Behind a session.Manager, a canary.Router with SideInContext or another Middleware it shares their context, and costs one
// allocation.
func (f *Flags) Middleware(who func(*http.Request) (key string, attrs map[string]any)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slot, _ := request.Shared(w, r); slot != nil && slot.Get(request.Flags) == nil {
				if slot.Set(request.Flags, &subject{f: f, who: who, r: r}) {
					next.ServeHTTP(w, r)
					return
				}
			}
			a := &struct {
				request.Slot
				subject
			}{}
			inner := a.Slot.Init(r, nil)
			a.subject.f, a.subject.who, a.subject.r = f, who, inner
			a.Slot.Set(request.Flags, &a.subject)
			defer a.Slot.Finish(r)
			next.ServeHTTP(w, inner)
		})
	}
}

// A subject is for whom flags are evaluated in a request.
type subject struct {
	f   *Flags
	who func(*http.Request) (string, map[string]any)
	r   *http.Request

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

// ContextValue answers the SDK, and the evaluations of this package, which ask for the transaction context.
func (s *subject) ContextValue(key any, outer context.Context) any {
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
			s.f.errors.Add(1)
			s.f.warned.Do(func() {
				s.f.opts.Logger.Error("flags: the function of Middleware has panicked: flags are evaluated for nobody",
					slog.String("path", s.f.path), slog.String("panic", fmt.Sprint(p)))
			})
		}
	}()
	key, attrs := s.who(s.r.WithContext(&asking{s.r.Context(), outer}))
	ctx := openfeature.MergeTransactionContext(outer, openfeature.NewEvaluationContext(key, attrs))
	return openfeature.TransactionContext(ctx)
}
