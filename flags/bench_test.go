package flags_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/midair-go/midair/flags"
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
	return f, flags.With(ctx, "user-4711", map[string]any{"plan": "pro", "country": "at", "age": 30, "word": "x"})
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

func BenchmarkCompile(b *testing.B) {
	content := []byte(benched)
	b.ReportAllocs()
	for b.Loop() {
		check(b, flags.Compile(content))
	}
}
