package flags_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/httpflags"
	"github.com/open-feature/go-sdk/openfeature"
)

const benched = `{"flags": {
	"static": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
	"plan": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
		"targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}},
	"share": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
		"targeting": {"fractional": [["on", 10], ["off", 90]]}},
	"both": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
		"targeting": {"if": [{"and": [{"in": [{"var": "country"}, ["de", "fr", "at"]]}, {">=": [{"var": "age"}, 18]}, {"!=": [{"var": "word"}, 3]}]},
			{"fractional": [{"var": "targetingKey"}, ["on", 10], ["off", 90]]}, "off"]}},
	"side": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
		"targeting": {"if": [{"==": [{"var": "canary.side"}, "canary"]}, "on"]}},
	"text": {"state": "ENABLED", "variants": {"on": "yes", "off": "no"}, "defaultVariant": "on"},
	"number": {"state": "ENABLED", "variants": {"on": 0.25}, "defaultVariant": "on"}
}}`

type sideKey struct{}

func bench(t testing.TB) (*flags.Flags, context.Context) {
	f, _ := served(t, benched, flags.Options{Attributes: map[string]func(context.Context) string{
		"canary.side": func(ctx context.Context) string { s, _ := ctx.Value(sideKey{}).(string); return s },
	}})
	ctx := context.WithValue(context.Background(), sideKey{}, "canary")
	return f, f.With(ctx, "user-4711", map[string]any{"plan": "pro", "country": "at", "age": 30, "word": "x"})
}

// An evaluation allocates nothing, by handle and by name, whatever operators its rule uses, and neither does one that
// fails or reads a weight.
func TestEvaluationDoesNotAllocate(t *testing.T) {
	f, ctx := bench(t)
	for _, key := range []string{"static", "plan", "share", "both", "side", "text", "missing"} {
		h := f.BoolFlag(key, false)
		mustBe(t, key+" by handle", testing.AllocsPerRun(100, func() { h.Get(ctx) }), 0)
		mustBe(t, key+" by name", testing.AllocsPerRun(100, func() { f.Bool(ctx, key, false) }), 0)
	}
	s, n, i := f.StringFlag("text", ""), f.FloatFlag("number", 0), f.IntFlag("number", 0)
	mustBe(t, "others", testing.AllocsPerRun(100, func() { s.Get(ctx); n.Get(ctx); i.Get(ctx) }), 0)
	weight := f.Weight("number", 0)
	mustBe(t, "a weight", testing.AllocsPerRun(100, func() { weight() }), 0)
	mustBe(t, "the weight", weight(), 0.25)
}

// An evaluation allocates nothing in any kind of context: without a visitor, with one, in a request and in an inner context of it.
func TestNoContextAllocates(t *testing.T) {
	f, ctx := bench(t)
	v := flags.NewVar(f, "number", 0.0, flags.VarOptions[float64]{})
	ctx = f.Renew(ctx) // a Var that is younger than the context has to decode
	none := func(what string, fn func()) {
		t.Helper()
		mustBe(t, what, testing.AllocsPerRun(100, fn), 0)
	}
	all := func(what string, ctx context.Context) {
		for _, key := range []string{"static", "plan", "share", "both", "side", "missing"} {
			h := f.BoolFlag(key, false)
			none(key+" by handle in "+what, func() { h.Get(ctx) })
			none(key+" by name in "+what, func() { f.Bool(ctx, key, false) })
		}
		none("a Var in "+what, func() { v.In(ctx) })
	}
	none("a Var", func() { v.Get() })
	all("no context", context.Background())
	all("With", ctx)
	all("With in With", f.With(ctx, "bob", nil))
	who := func(*http.Request) (string, map[string]any) { return "ann", map[string]any{"plan": "pro"} }
	httpflags.Middleware(f, who)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		all("a request", r.Context())
		all("With in a request", f.With(r.Context(), "bob", nil))
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
}

// A guard allocates once for a request, and nothing without one.
func TestAGuardAllocatesOnceForARequest(t *testing.T) {
	f, _, d := guarded(t, file("off"), flags.Options{})
	d.set(0.5)
	h := f.BoolFlag("cart", false)
	ctx, pinned := as("ann"), f.With(context.Background(), "ann", nil)
	mustBe(t, "without a request", testing.AllocsPerRun(100, func() { h.Get(ctx) }), 0)
	mustBe(t, "in a request", testing.AllocsPerRun(100, func() { h.Get(pinned) }), 0) // the first call of AllocsPerRun does not count
	renew := testing.AllocsPerRun(100, func() { f.Renew(pinned) })
	mustBe(t, "the first one in a request", testing.AllocsPerRun(100, func() { h.Get(f.Renew(pinned)) }), renew+1)
}

// per is how long fn takes: the best of several rounds, so that a busy machine does not count.
func per(fn func()) time.Duration {
	best := time.Hour
	for range 20 {
		start := time.Now()
		for range 2000 {
			fn()
		}
		best = min(best, time.Since(start))
	}
	return best / 2000
}

// A handle is much cheaper than the client of the SDK, in the same run.
func TestHandleIsCheaperThanClient(t *testing.T) {
	f, ctx := bench(t)
	h, client, ec := f.BoolFlag("share", false), f.Client(), openfeature.EvaluationContext{}
	direct := per(func() { h.Get(ctx) })
	through := per(func() { client.Boolean(ctx, "share", false, ec) })
	t.Logf("a percentage by handle %v, through the SDK %v", direct, through)
	if through < 3*direct {
		t.Errorf("by handle %v, through the SDK %v", direct, through)
	}
}

func BenchmarkHandle(b *testing.B) {
	f, ctx := bench(b)
	for _, key := range []string{"static", "plan", "share", "both", "side"} {
		b.Run(key, func(b *testing.B) {
			h := f.BoolFlag(key, false)
			b.ReportAllocs()
			for b.Loop() {
				h.Get(ctx)
			}
		})
	}
}

// In a request, a handle has to find the moment of the request and the visitor.
func BenchmarkHandleInARequest(b *testing.B) {
	f, _ := bench(b)
	visitor := func(*http.Request) (string, map[string]any) { return "ann", map[string]any{"plan": "pro"} }
	for _, key := range []string{"static", "plan", "share"} {
		b.Run(key, func(b *testing.B) {
			h := f.BoolFlag(key, false)
			b.ReportAllocs()
			serveWith(f, visitor, func(_ http.ResponseWriter, r *http.Request) {
				for ctx := r.Context(); b.Loop(); {
					h.Get(ctx)
				}
			})
		})
	}
}

func BenchmarkVar(b *testing.B) {
	f, ctx := bench(b)
	v := flags.NewVar(f, "number", 0.0, flags.VarOptions[float64]{})
	ctx = f.Renew(ctx) // a Var that is younger than the context has to decode
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v.Get()
		}
	})
	b.Run("In", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v.In(ctx)
		}
	})
}

func BenchmarkGuard(b *testing.B) {
	g := flags.Guarded("cart", func() float64 { return 0.5 })
	f, _ := served(b, file("off"), flags.Options{Guards: []flags.Guard{g}})
	h, ctx := f.BoolFlag("cart", false), f.With(context.Background(), "ann", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.Get(ctx)
	}
}

func BenchmarkName(b *testing.B) {
	f, ctx := bench(b)
	b.ReportAllocs()
	for b.Loop() {
		f.Bool(ctx, "share", false)
	}
}

func BenchmarkWeight(b *testing.B) {
	f, _ := bench(b)
	weight := f.Weight("number", 0)
	b.ReportAllocs()
	for b.Loop() {
		weight()
	}
}

// The lookup that a program without flags would do.
func BenchmarkPlainMap(b *testing.B) {
	m := map[string]bool{}
	for i := range 7 {
		m[fmt.Sprint("flag-", i)] = true
	}
	var on bool
	b.ReportAllocs()
	for b.Loop() {
		on = m["flag-3"]
	}
	_ = on
}

func BenchmarkClient(b *testing.B) {
	f, ctx := bench(b)
	client, ec := f.Client(), openfeature.EvaluationContext{}
	for _, key := range []string{"static", "share"} {
		b.Run(key, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				client.Boolean(ctx, key, false, ec)
			}
		})
	}
}

func BenchmarkHandleParallel(b *testing.B) {
	f, ctx := bench(b)
	h := f.BoolFlag("share", false)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Get(ctx)
		}
	})
}
