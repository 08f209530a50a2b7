package canary_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/midair-go/midair/canary"
)

// The zero value of the options is a rollout that has not begun.
func TestZeroOptionsSendEverythingToStable(t *testing.T) {
	rt := router(canary.Options{})
	for range 1000 {
		if got := ask(rt); got != "stable" {
			t.Fatalf("answered by %s", got)
		}
	}
	if s := rt.Status(); s.Name != "canary" || s.Weight != 0 {
		t.Errorf("status %+v", s)
	}
}

// Whatever the weight function returns is a share from 0 to 1, with and without a key.
func TestOddWeightsAreNoneOrAll(t *testing.T) {
	for _, v := range []struct {
		weight, effective float64
		want              string
	}{
		{0, 0, "stable"}, {-1, 0, "stable"}, {math.Inf(-1), 0, "stable"}, {math.NaN(), 0, "stable"},
		{1, 1, "canary"}, {1.5, 1, "canary"}, {math.Inf(1), 1, "canary"},
	} {
		for name, opts := range map[string]canary.Options{
			"keyless": {}, "key": {Key: byHeader}, "cookie": {Cookie: canary.NewCookie("v", canary.CookieOptions{})},
		} {
			opts.Weight = canary.Fixed(v.weight)
			rt := router(opts)
			for i := range 200 {
				if got := ask(rt, "User", fmt.Sprint(i)); got != v.want {
					t.Fatalf("%s, weight %v: answered by %s", name, v.weight, got)
				}
			}
			if got := rt.Status().Weight; got != v.effective {
				t.Errorf("weight %v: effective %v", v.weight, got)
			}
		}
	}
}

// A key stays on one side: through time, restarts and on every host, which all are other routers of the same name.
func TestKeyStaysOnOneSide(t *testing.T) {
	opts := canary.Options{Name: "cart-v2", Weight: canary.Fixed(0.25), Key: byHeader}
	first := cohort(router(opts), 2000)
	if n := len(first); n < 400 || n > 600 {
		t.Errorf("%d of 2000 at weight 0.25", n)
	}
	for range 3 {
		if again := cohort(router(opts), 2000); !maps.Equal(first, again) {
			t.Fatal("another router has another cohort")
		}
	}
	opts.Name, opts.Salt = "renamed", "cart-v2"
	if again := cohort(router(opts), 2000); !maps.Equal(first, again) {
		t.Error("the same salt has another cohort")
	}
}

// A ramp only adds users. After a rollback, a new ramp with the same salt selects the same users at each step, and so does the
// ramp of a router in another process.
func TestANewRampSelectsTheSameUsers(t *testing.T) {
	const users = 1000
	var weight dial
	opts := canary.Options{Key: byHeader, Weight: weight.weight}
	rt := router(opts)
	first := ramp(rt, &weight, users)
	for i, w := range rampSteps {
		if exact := w == 0 || w == 1; exact && len(first[i]) != int(w*users) {
			t.Errorf("%d of %d users at weight %v", len(first[i]), users, w)
		}
		for user := range first[max(i-1, 0)] {
			if w != 0 && !first[i][user] {
				t.Errorf("%s left at weight %v", user, w)
			}
		}
	}
	if !slices.EqualFunc(first, ramp(rt, &weight, users), maps.Equal) {
		t.Error("the second ramp has other cohorts")
	}
	if !slices.EqualFunc(first, ramp(router(opts), &weight, users), maps.Equal) {
		t.Error("the ramp of another router has other cohorts")
	}
}

// A ramp of another name, or with another salt, selects users independently.
func TestRolloutsAreIndependent(t *testing.T) {
	const users = 2000
	var weight dial
	opts := canary.Options{Name: "cart-v2", Key: byHeader, Weight: weight.weight}
	search, again := opts, opts
	search.Name, again.Salt = "search", "again"
	cart := ramp(router(opts), &weight, users)
	for name, other := range map[string]canary.Options{"name": search, "salt": again} {
		for i, cohort := range ramp(router(other), &weight, users) {
			w := rampSteps[i] * rampSteps[i]
			if w == 0 || w == 1 {
				continue
			}
			both := 0
			for user := range cohort {
				if cart[i][user] {
					both++
				}
			}
			if sd := math.Sqrt(users * w * (1 - w)); math.Abs(float64(both)-users*w) > 5*sd {
				t.Errorf("another %s, weight %v: %d of %d users are in both cohorts", name, rampSteps[i], both, users)
			}
		}
	}
}

// The weight is asked for once a request, and the key not at all where it decides nothing.
func TestOptionsAreAskedOnlyForWhatDecides(t *testing.T) {
	var weights, keys int
	weight := 0.0
	rt := router(headed(canary.Options{
		Weight: func() float64 { weights++; return weight },
		Key:    func(*http.Request) string { keys++; return "user" },
	}, "canary"))
	for _, v := range []struct {
		weight        float64
		header        string
		weights, keys int
	}{{0, "", 1, 0}, {1, "", 1, 0}, {0.5, "", 1, 1}, {0.5, "true", 0, 0}} {
		weights, keys, weight = 0, 0, v.weight
		ask(rt, "Canary", v.header)
		if weights != v.weights || keys != v.keys {
			t.Errorf("weight %v, header %q: asked %d times for the weight, %d for the key", v.weight, v.header, weights, keys)
		}
	}
}

// A client can choose its side by header, in any case, and nothing else in it has a meaning.
func TestHeaderChoosesTheSide(t *testing.T) {
	none, all := headed(canary.Options{}, "canary"), headed(canary.Options{Weight: canary.Fixed(1)}, "canary")
	for _, v := range []struct {
		opts         canary.Options
		header, want string
	}{
		{none, "true", "canary"}, {none, "TRUE", "canary"}, {none, "1", "stable"}, {none, "", "stable"},
		{all, "false", "stable"}, {all, "False", "stable"}, {all, "no", "canary"}, {all, "", "canary"},
	} {
		if got := ask(router(v.opts), "canary", v.header); got != v.want {
			t.Errorf("canary: %q is answered by %s", v.header, got)
		}
	}
}

// The header has the name that the program gives it, and without one strangers have no say.
func TestNoHeaderUnlessItIsNamed(t *testing.T) {
	renamed := router(headed(canary.Options{}, "x-try-it"))
	if ask(renamed, "Canary", "true") != "stable" || ask(renamed, "X-Try-It", "true") != "canary" {
		t.Error("the header is not the one that was named")
	}
	if ask(router(canary.Options{}), "Canary", "true", "X-Try-It", "true", "", "true") != "stable" {
		t.Error("a header that nobody named was obeyed")
	}
}

// A release without a canary is served by the stable handler, whoever asks for what.
func TestNoCanaryIsWeightZero(t *testing.T) {
	for _, none := range []http.Handler{nil, http.HandlerFunc(nil)} {
		rt := canary.NewRouter(v1, none, headed(canary.Options{Weight: canary.Fixed(1)}, "canary"))
		if ask(rt) != "stable" || ask(rt, "Canary", "true") != "stable" {
			t.Error("not answered by stable")
		}
		if s := rt.Status(); s.Weight != 0 || s.Stable.Requests != 2 || s.Stable.Forced != 0 {
			t.Errorf("status %+v", s)
		}
	}
}

// A stable handler that was forgotten is an answer, not a panic.
func TestNoStableIsUnavailable(t *testing.T) {
	for _, none := range []http.Handler{nil, http.HandlerFunc(nil)} {
		w := httptest.NewRecorder()
		canary.NewRouter(none, v2, canary.Options{}).ServeHTTP(w, request())
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("status %d", w.Code)
		}
	}
}

// Handlers get the writer and the request of the server themselves, unless the answer has to tell caches what it depends on.
func TestWriterAndRequestPassUntouched(t *testing.T) {
	r, w := request(), httptest.NewRecorder()
	inner := http.ResponseWriter(w)
	same := http.HandlerFunc(func(gotW http.ResponseWriter, gotR *http.Request) {
		if u, ok := gotW.(interface{ Unwrap() http.ResponseWriter }); ok {
			gotW = u.Unwrap()
			inner = nil
		}
		if gotW != http.ResponseWriter(w) || gotR != r {
			t.Error("another writer or request")
		}
	})
	all := func(*http.Request) bool { return true }
	for name, test := range map[string]struct {
		method  string
		opts    canary.Options
		wrapped bool
	}{
		"weight 0":     {method: "GET", opts: canary.Options{}},
		"weight 1":     {method: "GET", opts: canary.Options{Weight: canary.Fixed(1)}},
		"POST":         {method: "POST", opts: headed(canary.Options{Weight: half}, "canary")},
		"same for all": {method: "GET", opts: headed(canary.Options{Weight: half, SameForAll: all}, "canary")},
		"share":        {method: "GET", opts: canary.Options{Weight: half}, wrapped: true},
		"header":       {method: "HEAD", opts: headed(canary.Options{}, "canary"), wrapped: true},
	} {
		clear(w.Header())
		inner = w
		r.Method = test.method
		test.opts.Key = byHeader
		canary.NewRouter(same, same, test.opts).ServeHTTP(w, r)
		if wrapped := inner == nil; wrapped != test.wrapped || wrapped != (len(w.Header()) != 0) {
			t.Errorf("%s: wrapped %v, headers %v", name, wrapped, w.Header())
		}
	}
}

// The middleware has the shape that routers chain, and what it wraps is stable.
func TestMiddlewareWrapsTheStableHandler(t *testing.T) {
	var use []func(http.Handler) http.Handler
	use = append(use, canary.Middleware(v2, canary.Options{Weight: canary.Fixed(0.5), Key: byHeader}))
	h := use[0](v1)
	if n := len(cohort(h, 1000)); n < 400 || n > 600 {
		t.Errorf("%d of 1000 on the canary side", n)
	}
	if _, ok := h.(*canary.Router); !ok {
		t.Errorf("it is a %T", h)
	}
}

// A handler, and whatever it asks, can know its side if that is wanted.
func TestSideIsInTheContext(t *testing.T) {
	var got []string
	tell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		side, ok := canary.SideFromContext(r.Context())
		got = append(got, fmt.Sprint(side, ok))
	})
	rt := canary.NewRouter(tell, tell, headed(canary.Options{SideInContext: true}, "canary"))
	ask(rt)
	ask(rt, "Canary", "true")
	ask(canary.NewRouter(rt, nil, canary.Options{SideInContext: true}), "Canary", "true") // the inner one tells
	ask(canary.NewRouter(tell, tell, canary.Options{}))
	if want := []string{"stable true", "canary true", "canary true", "stable false"}; !slices.Equal(got, want) {
		t.Errorf("sides %q, want %q", got, want)
	}
	if _, ok := canary.SideFromContext(context.Background()); ok {
		t.Error("a side from nowhere")
	}
}

// All handlers of a middleware are one rollout. Some frameworks wrap a handler for each request: that costs one allocation, and
// a Switch does not remember each.
func TestHandlersOfAMiddlewareAreOneRollout(t *testing.T) {
	sw := newSwitch(canary.SwitchOptions{})
	use := canary.Middleware(v2, canary.Options{Switch: sw, Logger: quiet, Bad: canary.Outcome.Failed})
	for n, stable := range []side{"one", "other"} {
		rt := use(stable).(*canary.Router)
		if got := ask(rt); got != string(stable) {
			t.Errorf("answered by %s, want %s", got, stable)
		}
		if st := rt.Status().Stable; st.Requests != uint64(n)+1 || st.Outcomes.Ended != uint64(n)+1 {
			t.Errorf("%d handlers: %+v", n+1, st)
		}
	}
	if n := testing.AllocsPerRun(100, func() { use(v1) }); n > 2 {
		t.Errorf("%v allocations for a handler", n)
	}
	must(t, sw.Green())
	<-sw.Idle(canary.Stable)
	if got := ask(use(v1)); got != "canary" {
		t.Error(got)
	}
}
