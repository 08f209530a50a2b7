package compat

import (
	"context"
	"testing"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
)

// speedRules are the flags whose speed is compared, by key. All are booleans with the variants on and off.
var speedRules = map[string]any{
	"static":     nil,
	"if":         op("if", op("==", lookup("plan"), "pro"), "on"),
	"fractional": op("fractional", []any{"on", 10.0}, []any{"off", 90.0}),
	"combined": op("if", op("and", op("in", lookup("country"), []any{"de", "fr", "at"}), op(">=", lookup("age"), 18.0), op("!=", lookup("word"), "x")),
		op("fractional", op("cat", lookup("$flagd.flagKey"), lookup("email")), []any{"on", 10.0}, []any{"off", 90.0}), "off"),
}

var speedKeys = []string{"static", "if", "fractional", "combined"}

// speedSides are the ways to evaluate one flag file.
type speedSides struct {
	both
	ctx          context.Context
	attrs        map[string]any
	ours, theirs *openfeature.Client
}

func openSpeed(t testing.TB) speedSides {
	all := map[string]any{}
	for key, rule := range speedRules {
		flag := map[string]any{"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off"}
		if rule != nil {
			flag["targeting"] = rule
		}
		all[key] = flag
	}
	b, err := openBoth(t, map[string]any{"flags": all})
	if err != nil {
		t.Fatal(err)
	}
	api := isolated.NewAPI()
	if err := api.SetProviderAndWait(context.Background(), b.theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = api.Shutdown(context.Background())
		b.close()
	})
	attrs := map[string]any{"plan": "pro", "country": "at", "age": 30, "word": "y", "email": "jo@example.org"}
	ctx := b.flags.With(context.Background(), "user-4711", attrs)
	return speedSides{both: b, ctx: ctx, attrs: attrs, ours: b.flags.Client(), theirs: api.NewClient()}
}

// best is how long fn takes: the best of several rounds, so that what else the machine does counts little.
func best(fn func()) time.Duration {
	shortest := time.Hour
	for range 30 {
		begin := time.Now()
		for range 50 {
			fn()
		}
		shortest = min(shortest, time.Since(begin)/50)
	}
	return shortest
}

// TestEvaluationIsTenTimesFasterThanFlagd compares, in one run, a handle with flagd's provider behind the SDK's client, which is
// how a program evaluates with each. Clients are compared for information: most of their time is the SDK's on both sides.
func TestEvaluationIsTenTimesFasterThanFlagd(t *testing.T) {
	s := openSpeed(t)
	for _, key := range speedKeys {
		h := s.flags.BoolFlag(key, false)
		want, _ := s.theirs.BooleanValue(s.ctx, key, false, openfeature.EvaluationContext{})
		if got := h.Get(s.ctx); got != want {
			t.Errorf("%s: the handle gives %v, flagd %v", key, got, want)
		}
		handle := best(func() { h.Get(s.ctx) })
		ours := best(func() { s.ours.Boolean(s.ctx, key, false, openfeature.EvaluationContext{}) })
		theirs := best(func() { s.theirs.Boolean(s.ctx, key, false, openfeature.EvaluationContext{}) })
		t.Logf("%-10s handle %7v, client %8v, flagd's client %8v: handle %.0f times, client %.1f times faster", key, handle, ours, theirs,
			ratio(theirs, handle), ratio(theirs, ours))
		if ratio(theirs, handle) < 10 {
			t.Errorf("%s: a handle is %.1f times faster than flagd, and should be 10 times", key, ratio(theirs, handle))
		}
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }

// BenchmarkAgainstFlagd measures each way to evaluate each rule.
func BenchmarkAgainstFlagd(b *testing.B) {
	s := openSpeed(b)
	flat := openfeature.FlattenedContext{openfeature.TargetingKey: "user-4711"}
	for k, v := range s.attrs {
		flat[k] = v
	}
	none := openfeature.EvaluationContext{}
	for _, key := range speedKeys {
		h := s.flags.BoolFlag(key, false)
		for _, way := range []struct {
			name string
			run  func()
		}{
			{"handle", func() { h.Get(s.ctx) }},
			{"provider", func() { s.both.ours.BooleanEvaluation(s.ctx, key, false, flat) }},
			{"client", func() { s.ours.Boolean(s.ctx, key, false, none) }},
			{"flagd-provider", func() { s.both.theirs.BooleanEvaluation(s.ctx, key, false, flat) }},
			{"flagd-client", func() { s.theirs.Boolean(s.ctx, key, false, none) }},
		} {
			b.Run(key+"/"+way.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					way.run()
				}
			})
		}
	}
}
