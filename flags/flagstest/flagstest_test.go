package flagstest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/flagstest"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/open-feature/go-sdk/openfeature"
)

func TestMain(m *testing.M) { testutil.Main(m, nil) }

// New serves values of all types.
func TestNewServesValues(t *testing.T) {
	ff := flagstest.New(t, map[string]any{"b": true, "s": "x", "f": 0.5, "i": 7, "o": map[string]int{"n": 3}})
	ctx := t.Context()
	if !ff.Bool(ctx, "b", false) || ff.String(ctx, "s", "") != "x" || ff.Float(ctx, "f", 0) != 0.5 || ff.Int(ctx, "i", 0) != 7 {
		t.Error("a value is wrong")
	}
	if got := fmt.Sprint(ff.Object(ctx, "o", nil)); got != "map[n:3]" {
		t.Errorf("the object is %s", got)
	}
	if err := ff.Ready(ctx); err != nil {
		t.Error(err)
	}
	if w := ff.Weight("f", 0)(); w != 0.5 {
		t.Errorf("the weight is %v", w)
	}
}

// Parallel tests of one Flags see their own values only, by every way to read a flag.
func TestWithIsForOneContext(t *testing.T) {
	ff := flagstest.New(t, map[string]any{"color": "red", "limit": 1})
	color, limit := ff.StringFlag("color", ""), flags.NewVar(ff, "limit", 0, flags.VarOptions[int]{})
	t.Run("parallel", func(t *testing.T) {
		for i := range 20 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				want := fmt.Sprint("color-", i)
				ctx := flagstest.With(t, t.Context(), ff, map[string]any{"color": want, "limit": i, "new": true})
				ctx = ff.With(ctx, "user", nil) // what a handler does
				for range 100 {
					if color.Get(ctx) != want || ff.String(ctx, "color", "") != want || limit.In(ctx) != i || !ff.Bool(ctx, "new", false) {
						t.Fatal("the context has other values")
					}
				}
				if got := ff.Client().String(ctx, "color", "", openfeature.EvaluationContext{}); got != want {
					t.Errorf("the client says %s", got)
				}
			})
		}
	})
	if color.Get(context.Background()) != "red" || limit.Get() != 1 || ff.Bool(context.Background(), "new", false) {
		t.Error("another context has changed")
	}
	if w := ff.Status().Warnings; len(w) != 0 {
		t.Errorf("warnings: %v", w)
	}
}

// Open is for targeting.
func TestOpenServesRules(t *testing.T) {
	ff := flagstest.Open(t, `{"flags": {"beta": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
		"targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}}}}`)
	if !ff.Bool(ff.With(t.Context(), "u", map[string]any{"plan": "pro"}), "beta", false) || ff.Bool(t.Context(), "beta", true) {
		t.Error("the rule does not count")
	}
}

// What cannot be served fails the test.
func TestBadValuesFail(t *testing.T) {
	for name, fn := range map[string]func(testing.TB){
		"a function": func(t testing.TB) { flagstest.New(t, map[string]any{"f": func() {}}) },
		"a list":     func(t testing.TB) { flagstest.New(t, map[string]any{"f": nil}) },
		"not JSON":   func(t testing.TB) { flagstest.Open(t, "{") },
		"a bad flag": func(t testing.TB) { flagstest.Open(t, `{"flags": {"f": {}}}`) },
		"in context": func(t testing.TB) {
			flagstest.With(t, t.Context(), flagstest.New(t, nil), map[string]any{"f": make(chan int)})
		},
	} {
		rec := &recorder{TB: t}
		func() {
			defer func() { _ = recover() }()
			fn(rec)
		}()
		if !rec.failed {
			t.Errorf("%s: the test goes on", name)
		}
	}
}

// A recorder is a test that may fail.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Fatalf(string, ...any) {
	r.failed = true
	panic("failed")
}
