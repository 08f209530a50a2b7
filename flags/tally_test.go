package flags_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

// counts returns the counts of a flag as "variant:n" in order.
func counts(f *flags.Flags, key string) string {
	of := f.Status().Evaluations[key]
	var all []string
	for _, variant := range slices.Sorted(maps.Keys(of)) {
		all = append(all, fmt.Sprintf("%s:%d", variant, of[variant]))
	}
	return strings.Join(all, " ")
}

// Each evaluation counts once, whatever way it takes: by name, by handle, by a client, in a pinned context, with another type.
func TestEachEvaluationCountsOnce(t *testing.T) {
	f := serve(t, file("on"))
	ctx := context.Background()
	mustBe(t, "before", len(f.Status().Evaluations), 0)
	f.Bool(ctx, "cart", false)
	f.BoolFlag("cart", false).Get(ctx)
	f.BoolFlag("cart", false).Details(ctx)
	f.Bool(f.With(ctx, "ann", nil), "cart", false)
	_, err := f.Client().BooleanValue(ctx, "cart", false, openfeature.EvaluationContext{})
	check(t, err)
	f.String(ctx, "cart", "") // another type: the caller's default
	f.Bool(ctx, "missing", false)
	mustBe(t, "the counts", counts(f, "cart"), ":1 on:5")
	mustBe(t, "the flags", len(f.Status().Evaluations), 1)
	mustBe(t, "the errors", f.Status().EvaluationErrors, 2)
	f.Weight("cart", 0)
	flags.NewVar(f, "cart", false, flags.VarOptions[bool]{})
	mustBe(t, "the counts after a weight and a Var", counts(f, "cart"), ":1 on:5")
}

// No evaluation is lost while others evaluate and the file changes: the counts of variants that stay go on.
func TestCountsAreExact(t *testing.T) {
	content := func(i int) string {
		return fmt.Sprintf(`{"flags": {"cart": {"state": "ENABLED", "variants": {"on": true, "off": false, "extra%d": true}, "defaultVariant": %q,
			"metadata": {"i": %d}}}}`, i%3, []string{"on", "off"}[i%2], i)
	}
	f, path := served(t, content(0), flags.Options{})
	h := f.BoolFlag("cart", false)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 5000 {
				ctx := context.Background()
				if i%100 == 0 {
					ctx = f.Renew(ctx)
				}
				h.Get(ctx)
			}
		})
	}
	for i := range 100 {
		look(t, f, path, content(i))
	}
	all.Wait()
	of := f.Status().Evaluations["cart"]
	mustBe(t, "the number of evaluations", of["on"]+of["off"], 20000)
	look(t, f, path, "{")
	h.Get(context.Background())
	look(t, f, path, set(faulty("cart")))
	h.Get(context.Background())
	look(t, f, path, content(0))
	of = f.Status().Evaluations["cart"]
	mustBe(t, "the number of evaluations", of["on"]+of["off"], 20002)
	f.String(context.Background(), "cart", "")
	look(t, f, path, content(1)) // with another variant
	mustBe(t, "the defaults of callers", f.Status().Evaluations["cart"][""], 1)
}

// What a Var refuses is counted as the variant that is served.
func TestCountsOfAFlagThatIsPutBack(t *testing.T) {
	content := func(n int) string {
		return set(fmt.Sprintf(`"n": {"state": "ENABLED", "variants": {"low": -5, "high": %d}, "defaultVariant": %q}`, max(n, 1), map[bool]string{true: "low", false: "high"}[n < 0]))
	}
	f, path := served(t, content(1), flags.Options{})
	flags.NewVar(f, "n", 9, positive)
	for i, n := range []int{1, -1, -1, 2} {
		look(t, f, path, content(n))
		mustBe(t, "the value", f.Int(context.Background(), "n", 0), max(1, int64(n)))
		mustBe(t, "the counts", counts(f, "n"), fmt.Sprintf("high:%d", i+1))
	}
}

// Status lists 1,000 flags. The others count together.
func TestCountsAreBounded(t *testing.T) {
	var all []string
	for i := range 1200 {
		all = append(all, text(fmt.Sprintf("f%04d", i), "x"))
	}
	f := serve(t, set(all...))
	for i := range 1200 {
		for range 2 {
			f.String(context.Background(), fmt.Sprintf("f%04d", i), "")
		}
		f.Bool(context.Background(), fmt.Sprintf("f%04d", i), false)
	}
	got := f.Status().Evaluations
	mustBe(t, "the number of keys", len(got), 1001)
	mustBe(t, "the first", counts(f, "f0000"), ":1 v:2")
	mustBe(t, "the last that is listed", counts(f, "f0999"), ":1 v:2")
	mustBe(t, "all others", counts(f, ""), ":600")
}
