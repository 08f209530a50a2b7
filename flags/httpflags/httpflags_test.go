package httpflags_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/flagstest"
	"github.com/midair-go/midair/flags/httpflags"
	"github.com/midair-go/midair/session"
	"github.com/open-feature/go-sdk/openfeature"
)

const planFile = `{"flags":{"plan":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
	"targeting":{"if":[{"==":[{"var":"plan"},"pro"]},"on","off"]}},
	"key":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
	"targeting":{"if":[{"==":[{"var":"targetingKey"},"ann"]},"on","off"]}}}}`

// serveWith serves one request behind the middleware.
func serveWith(f *flags.Flags, who func(*http.Request) (string, map[string]any), h http.HandlerFunc) {
	r := httptest.NewRequest("GET", "/", nil)
	httpflags.Middleware(f, who)(h).ServeHTTP(httptest.NewRecorder(), r)
}

// Flags, clients of the SDK and contexts that a handler derives see for whom the request is. What is said further in counts
// more, and what was said before stays where nothing else was said.
func TestMiddlewareSaysForWhomFlagsAre(t *testing.T) {
	f := flagstest.Open(t, planFile)
	ann := func(*http.Request) (string, map[string]any) { return "ann", map[string]any{"plan": "pro"} }
	serveWith(f, ann, func(_ http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if !f.Bool(ctx, "plan", false) || !f.Bool(ctx, "key", false) {
			t.Error("the flags do not see the subject")
		}
		if on, err := f.Client().BooleanValue(ctx, "key", false, openfeature.EvaluationContext{}); !on || err != nil {
			t.Errorf("the client of the SDK: %v, %v", on, err)
		}
		bob := f.With(ctx, "bob", nil)
		if f.Bool(bob, "key", true) || !f.Bool(bob, "plan", false) {
			t.Error("With further in does not count more, or forgets the plan")
		}
		if !f.Bool(ctx, "key", false) {
			t.Error("With has changed the context of the request")
		}
	})
	outer := func(*http.Request) (string, map[string]any) { return "bob", map[string]any{"plan": "pro"} }
	inner := func(*http.Request) (string, map[string]any) { return "ann", nil }
	serveWith(f, outer, func(w http.ResponseWriter, r *http.Request) {
		httpflags.Middleware(f, inner)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if !f.Bool(r.Context(), "key", false) || !f.Bool(r.Context(), "plan", false) {
				t.Error("the inner middleware does not count, or has lost the plan of the outer one")
			}
		})).ServeHTTP(w, r)
		if f.Bool(r.Context(), "key", false) {
			t.Error("the inner middleware has changed the outer context")
		}
	})
}

// The function is called once for a request that evaluates, and not for any other: it may cost something.
func TestMiddlewareAsksOnlyWhoEvaluates(t *testing.T) {
	f := flagstest.Open(t, planFile)
	var asked atomic.Int32
	who := func(*http.Request) (string, map[string]any) { asked.Add(1); return "ann", nil }
	serveWith(f, who, func(http.ResponseWriter, *http.Request) {})
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times without an evaluation", n)
	}
	serveWith(f, who, func(_ http.ResponseWriter, r *http.Request) {
		for range 3 {
			f.Bool(r.Context(), "key", false)
		}
	})
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times for three evaluations", n)
	}
}

// A function that panics costs neither the request nor the values: flags are evaluated for nobody, and it is counted.
func TestMiddlewareThatPanicsHurtsNoRequest(t *testing.T) {
	f := flagstest.Open(t, planFile)
	who := func(*http.Request) (string, map[string]any) { panic("nil map") }
	served := false
	serveWith(f, who, func(_ http.ResponseWriter, r *http.Request) {
		served = !f.Bool(r.Context(), "key", false)
		if on, err := f.Client().BooleanValue(r.Context(), "key", false, openfeature.EvaluationContext{}); on || err != nil {
			t.Errorf("the client of the SDK: %v, %v", on, err)
		}
	})
	if n := f.Status().EvaluationErrors; !served || n != 1 {
		t.Errorf("served %v, %d errors", served, n)
	}
}

// The middleware shares the context of a session, and costs one allocation there.
func TestMiddlewareSharesTheContextOfTheRequest(t *testing.T) {
	f := flagstest.Open(t, planFile)
	sm := session.NewManager(session.Dir(t.TempDir()), session.Options{})
	who := func(r *http.Request) (string, map[string]any) { return sm.Cohort(r), nil }
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	w := httptest.NewRecorder()
	sm.Middleware(httpflags.Middleware(f, who)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		f.Bool(r.Context(), "key", false)
	}))).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if len(w.Result().Cookies()) != 1 {
		t.Error("the cohort was not asked for")
	}
	r := httptest.NewRequest("GET", "/", nil)
	alone, both := sm.Middleware(nothing), sm.Middleware(httpflags.Middleware(f, who)(nothing))
	before := testing.AllocsPerRun(100, func() { alone.ServeHTTP(w, r) })
	if n := testing.AllocsPerRun(100, func() { both.ServeHTTP(w, r) }); n > before+1 {
		t.Errorf("%v allocations, and %v without it", n, before)
	}
}

// The function may evaluate flags itself, as a store that it asks may do. They are evaluated for whom the context said before.
func TestMiddlewareMayEvaluateFlagsItself(t *testing.T) {
	f := flagstest.Open(t, planFile)
	inner := func(r *http.Request) (string, map[string]any) {
		if f.Bool(r.Context(), "key", false) {
			return "bob", nil
		}
		return "ann", nil
	}
	for outer, want := range map[string]bool{"ann": false, "bob": true} {
		outside := func(*http.Request) (string, map[string]any) { return outer, nil }
		serveWith(f, outside, func(w http.ResponseWriter, r *http.Request) {
			httpflags.Middleware(f, inner)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if got := f.Bool(r.Context(), "key", !want); got != want {
					t.Errorf("around it %s: %v, want %v", outer, got, want)
				}
			})).ServeHTTP(w, r)
		})
	}
}
