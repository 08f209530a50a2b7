package flags_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/httpflags"
	"github.com/midair-go/midair/internal/cohort"
	"github.com/open-feature/go-sdk/openfeature"
)

// A dial is a weight that tests turn.
type dial struct{ bits atomic.Uint64 }

func (d *dial) set(w float64)   { d.bits.Store(math.Float64bits(w)) }
func (d *dial) weight() float64 { return math.Float64frombits(d.bits.Load()) }

// guarded opens a file with a guard of the flag "cart".
func guarded(t *testing.T, content string, opts flags.Options) (*flags.Flags, string, *dial) {
	d := &dial{}
	opts.Guards = []flags.Guard{flags.Guarded("cart", d.weight)}
	f, path := served(t, content, opts)
	return f, path, d
}

// as is a context of a visitor without a moment: each evaluation asks the guard.
func as(key string) context.Context {
	ctx := context.Background()
	return openfeature.WithTransactionContext(ctx, openfeature.NewEvaluationContext(key, nil))
}

// A visitor is in the cohort of a guard exactly when the router of package canary, with the same name as its salt, takes the same
// key; and nobody leaves while the weight grows.
func TestCohortsOfGuardsAreThoseOfCanary(t *testing.T) {
	f, _, d := guarded(t, file("off"), flags.Options{})
	h := f.BoolFlag("cart", false)
	was := map[string]bool{}
	for _, w := range []float64{0, 0.001, 0.05, 0.5, 0.999, 1} {
		d.set(w)
		n := 0
		for i := range 2000 {
			key := fmt.Sprint("user-", i)
			detail := h.Details(as(key))
			mustBe(t, fmt.Sprintf("%s at %v", key, w), detail.Value, cohort.In("cart", key, w))
			reason := openfeature.Reason("DEFAULT")
			if detail.Value {
				reason = openfeature.SplitReason
				n++
			}
			mustBe(t, "the reason", detail.Reason, reason)
			if was[key] && !detail.Value {
				t.Fatalf("%s has left at %v", key, w)
			}
			was[key] = detail.Value
		}
		if share := float64(n) / 2000; math.Abs(share-w) > 0.03 {
			t.Errorf("the share is %v at the weight %v", share, w)
		}
	}
}

// member returns a visitor whose point is between two weights.
func member(salt string, from, to float64) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("user-", i); cohort.In(salt, key, to) && !cohort.In(salt, key, from) {
			return key
		}
	}
}

// While the weight goes up and down, all answers in a request are the same: by handle, by name, by a client, and for an inner
// Middleware and With.
func TestTheWeightOfARequestStays(t *testing.T) {
	f, _, d := guarded(t, file("off"), flags.Options{})
	client := f.Client()
	key := member("cart", 0.1, 0.9)
	who := func(*http.Request) (string, map[string]any) { return key, nil }
	var stop atomic.Bool
	var storm sync.WaitGroup
	storm.Go(func() {
		for i := 0; !stop.Load(); i++ {
			d.set([]float64{0.05, 0.95}[i%2])
		}
	})
	read := func(ctx context.Context) string {
		h := f.BoolFlag("cart", false)
		through, _ := client.BooleanValue(ctx, "cart", false, openfeature.EvaluationContext{})
		return fmt.Sprint(f.Bool(ctx, "cart", false), h.Get(ctx), through, h.Details(ctx).Value)
	}
	seen, end := map[string]bool{}, time.Now().Add(30*time.Second)
	for n := 0; n < 300 || len(seen) < 2 && time.Now().Before(end); n++ { // the weight may stay for a while on a busy machine
		serveWith(f, who, func(w http.ResponseWriter, r *http.Request) {
			first := read(r.Context())
			seen[first] = true
			httpflags.Middleware(f, who)(http.HandlerFunc(func(_ http.ResponseWriter, in *http.Request) {
				for _, ctx := range []context.Context{r.Context(), in.Context(), f.With(r.Context(), key, nil), f.With(in.Context(), "", nil)} {
					mustBe(t, "the answers", read(ctx), first)
				}
			})).ServeHTTP(w, r)
		})
	}
	stop.Store(true)
	storm.Wait()
	for all := range seen {
		if all != "true true true true" && all != "false false false false" {
			t.Errorf("the answers of a request are %s", all)
		}
	}
	mustBe(t, "the number of different answers", len(seen), 2)
}

// A context that is used for several visitors, such as that of a job, has an answer for each of them.
func TestAMomentIsNotAnAnswerForEverybody(t *testing.T) {
	f, _, d := guarded(t, file("off"), flags.Options{})
	d.set(0.5)
	in, out := member("cart", 0, 0.5), member("cart", 0.5, 1)
	job := f.Renew(context.Background())
	for range 2 {
		mustBe(t, "a visitor in the cohort", f.Bool(f.With(job, in, nil), "cart", false), true)
		mustBe(t, "a visitor outside", f.Bool(f.With(job, out, nil), "cart", false), false)
		d.set(0) // the moment stays
	}
	mustBe(t, "the next moment", f.Bool(f.Renew(f.With(job, in, nil)), "cart", false), false)
}

// A weight that cannot be is 0 and logged once; and the next good one counts.
func TestWeightsThatCannotBe(t *testing.T) {
	for what, bad := range map[string]func() float64{
		"panic: nil map":           func() float64 { panic("nil map") },
		"NaN":                      math.NaN,
		"it is -0.1":               func() float64 { return -0.1 },
		"it is 5, which is not":    func() float64 { return 5 },
		"it is +Inf, which is not": func() float64 { return math.Inf(1) },
	} {
		t.Run(what, func(t *testing.T) {
			var j journal
			now := atomic.Pointer[func() float64]{}
			now.Store(&bad)
			g := flags.Guarded("cart", func() float64 { return (*now.Load())() })
			f, path := served(t, file("off"), flags.Options{Guards: []flags.Guard{g}, Logger: j.logger()})
			for range 3 {
				mustBe(t, "the value", f.Bool(as("ann"), "cart", false), false)
				mustBe(t, "the value", f.Bool(f.With(context.Background(), "ann", nil), "cart", false), false)
			}
			write(t, path, set(file("off")[len(`{"flags": {`):len(file("off"))-2], text("a", "1")))
			f.Check()
			mustBe(t, "the value", f.Bool(as("ann"), "cart", false), false)
			mustBe(t, "the errors", f.Status().EvaluationErrors, 0)
			all := strings.Join(j.lines(), "\n")
			mustHold(t, all, "counts as 0", "key=cart", what)
			mustBe(t, "the number of lines about it", strings.Count(all, "counts as 0"), 1)
			good := func() float64 { return 1 }
			now.Store(&good)
			mustBe(t, "the value", f.Bool(as("ann"), "cart", false), true)
		})
	}
}

// What the file says of a guarded flag: each row is a file, and the answers outside of the cohort and inside.
func TestGuardsAndWhatTheFileSays(t *testing.T) {
	row := func(state, variants, more string) string {
		return fmt.Sprintf(`{"flags": {"cart": {"state": %q, "variants": {%s}%s}}}`, state, variants, more)
	}
	const both, rule = `"on": true, "off": false`, `, "targeting": {"if": [{"==": [{"var": "targetingKey"}, ""]}, "off", {"==": [{"var": "plan"}, "pro"]}, "on", null]}`
	for what, c := range map[string]struct{ content, out, in string }{
		"static":             {row("ENABLED", both, `, "defaultVariant": "off"`), "off DEFAULT", "on SPLIT"},
		"no default variant": {row("ENABLED", both, ``), " DEFAULT", "on SPLIT"},
		"disabled":           {row("DISABLED", both, `, "defaultVariant": "off"`), " DISABLED", " DISABLED"},
		"targeting below":    {row("ENABLED", both, `, "defaultVariant": "off"`+rule), "off DEFAULT", "on SPLIT"},
		"no such variant":    {row("ENABLED", `"off": false`, `, "defaultVariant": "off"`), "off STATIC", "off STATIC"},
		"no such flag":       {set(), " ERROR", " ERROR"},
	} {
		f, _, d := guarded(t, c.content, flags.Options{})
		d.set(0.5)
		for key, want := range map[string]string{member("cart", 0.5, 1): c.out, member("cart", 0, 0.5): c.in} {
			detail := f.BoolFlag("cart", false).Details(as(key))
			mustBe(t, what, detail.Variant+" "+string(detail.Reason), want)
		}
		if strings.Contains(warned(f), `its guard has no effect, because it has no variant "on"`) != (what == "no such variant") {
			t.Errorf("%s: the warnings are %q", what, warned(f))
		}
		d.set(1)
		if got := f.BoolFlag("cart", false).Details(context.Background()); got.Reason == openfeature.SplitReason {
			t.Errorf("%s: a visitor without a key is in the cohort", what)
		}
		mustBe(t, what+": as a weight", f.Weight("cart", 0.25)(), 0.25)
	}
	f, _, d := guarded(t, row("ENABLED", both, `, "defaultVariant": "off"`+rule), flags.Options{})
	d.set(0)
	pro := f.With(context.Background(), "ann", map[string]any{"plan": "pro"})
	mustBe(t, "targeting below", f.BoolFlag("cart", false).Details(pro).Reason, openfeature.TargetingMatchReason)
}

// A guard follows the flag: it comes and goes with the variant, and with the source of the flag.
func TestGuardsFollowTheFile(t *testing.T) {
	f, path, d := guarded(t, set(), flags.Options{Defaults: []byte(file("off"))})
	d.set(1)
	look := func(content, want string) {
		t.Helper()
		write(t, path, content)
		f.Check()
		mustBe(t, content, f.BoolFlag("cart", false).Details(as("ann")).Variant, want)
	}
	look(set(), "on")
	look(`{"flags": {"cart": {"state": "ENABLED", "variants": {"red": true}, "defaultVariant": "red"}}}`, "red")
	mustHold(t, warned(f), path, "flag cart: its guard has no effect")
	look(file("off"), "on")
	mustBe(t, "the warnings", warned(f), "")
	look(set(faulty("cart")), "on")
}

// A guard may name another variant. There is one guard for a flag, and there are at most 32.
func TestGuardsAreChecked(t *testing.T) {
	one := func() float64 { return 1 }
	var many []flags.Guard
	for i := range 33 {
		many = append(many, flags.Guarded(fmt.Sprint("f", i), one))
	}
	for part, guards := range map[string][]flags.Guard{
		"at most 32":                 many,
		"two guards for the flag":    {many[0], many[0]},
		"Options.Guards[0] needs":    {flags.Guarded("", one)},
		"Options.Guards[1] needs":    {many[0], flags.Guarded("x", nil)},
		"a function for the weight.": nil,
	} {
		f, err := flags.Open(t.TempDir()+"/x", flags.Options{Guards: guards})
		if guards == nil {
			check(t, err)
			check(t, f.Close())
			continue
		}
		if err == nil {
			t.Fatalf("%s: taken", part)
		}
		mustHold(t, err.Error(), "flags: Options.Guards", part)
	}
	var all []string
	for i := range 32 {
		all = append(all, fmt.Sprintf(`"f%d": {"state": "ENABLED", "variants": {"on": true, "off": false, "red": false}, "defaultVariant": "off"}`, i))
	}
	many[31].Variant = "red"
	f, _ := served(t, set(all...), flags.Options{Guards: many[:32]})
	ctx := f.With(context.Background(), "ann", nil)
	for i := range 32 {
		want := map[bool]string{true: "red", false: "on"}[i == 31]
		mustBe(t, fmt.Sprint("flag ", i), f.BoolFlag(fmt.Sprint("f", i), false).Details(ctx).Variant, want)
	}
}
