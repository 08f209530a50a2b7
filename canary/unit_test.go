package canary_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/midair-go/midair/canary"
	points "github.com/midair-go/midair/internal/cohort"
)

// A request that is drawn by its key, or by the id of its visitor, has the key or the id as its Unit, whatever its method. The
// side is the one that the Unit has under the salt.
func TestUnitIsWhatTheSideWasDrawnBy(t *testing.T) {
	var s seen
	cookie := newCookie(canary.CookieOptions{})
	rt := router(canary.Options{Name: "cart", Weight: half, Key: byHeader, Cookie: cookie, Observe: s.observe})
	sides, ids := map[canary.Side]int{}, map[string]bool{}
	look := func(who string) string {
		o := s.take(t, 1)[0]
		if in := points.In("cart", o.Unit(), 0.5); in != (o.Side == canary.Canary) || !o.Drawn() {
			t.Errorf("%s: %s is not the side of the unit %q", who, what(o), o.Unit())
		}
		sides[o.Side]++
		return o.Unit()
	}
	for i := range 100 {
		user := fmt.Sprint("user-", i)
		for _, method := range []string{"GET", "POST"} {
			r := request("User", user)
			r.Method = method
			answer(rt, r)
			if got := look(user); got != user {
				t.Errorf("the unit of %s is %q", user, got)
			}
		}
		v := newVisitor(t)
		v.visit(rt)
		id := look("a new visitor")
		v.visit(rt)
		if again := look("the visitor"); again != id || len(id) != 8 || ids[id] || v.minted != 1 {
			t.Errorf("the unit of a visitor is %q, and then %q", id, again)
		}
		ids[id] = true
	}
	if sides[canary.Stable] < 50 || sides[canary.Canary] < 50 {
		t.Errorf("the sides are %v", sides)
	}
}

// A request that was drawn by itself, or not at all, has no Unit, also if it has a key and a cookie.
func TestRequestThatNoKeyHasDrawnHasNoUnit(t *testing.T) {
	cookie := newCookie(canary.CookieOptions{})
	v := newVisitor(t)
	v.visit(router(canary.Options{Weight: half, Cookie: cookie}))
	killed := canary.NewKillSwitch("", canary.KillSwitchOptions{Logger: quiet})
	must(t, killed.Kill("bad"))
	for name, opts := range map[string]canary.Options{
		"weight 0":         {Key: byHeader, Cookie: cookie},
		"weight 1":         {Weight: canary.Fixed(1), Key: byHeader, Cookie: cookie},
		"no key":           {Weight: half},
		"an empty key":     {Weight: half, Key: func(*http.Request) string { return "" }},
		"forced":           headed(canary.Options{Weight: half, Key: byHeader, Cookie: cookie}, "Forced"),
		"killed":           {Weight: half, Key: byHeader, Cookie: cookie, Kill: killed},
		"same for all":     {Weight: half, Key: byHeader, Cookie: cookie, SameForAll: always},
		"Key panics":       {Weight: half, Key: func(*http.Request) string { panic("bad") }, Cookie: cookie},
		"Weight panics":    {Weight: func() float64 { panic("bad") }, Key: byHeader, Cookie: cookie},
		"a switch":         {Switch: newSwitch(canary.SwitchOptions{}), Key: byHeader, Cookie: cookie},
		"no name can have": {Weight: half, Cookie: canary.NewCookie("a name", canary.CookieOptions{})},
	} {
		t.Run(name, func(t *testing.T) {
			var s seen
			opts.Observe = s.observe
			for range 10 {
				answer(router(opts), request("User", "somebody", "Forced", "true", "Cookie", "visitor="+v.cookies["visitor"]))
				if o := s.take(t, 1)[0]; o.Unit() != "" {
					t.Errorf("the unit is %q", o.Unit())
				}
			}
		})
	}
	var s seen
	rt := canary.NewRouter(v1, nil, canary.Options{Weight: half, Key: byHeader, Observe: s.observe, Logger: quiet})
	ask(rt, "User", "somebody")
	if o := s.take(t, 1)[0]; o.Unit() != "" {
		t.Errorf("without a canary the unit is %q", o.Unit())
	}
}

// A form that another site makes a browser send has no cookie and gets none, so it was drawn by itself.
func TestFormOfAnotherSiteHasNoUnit(t *testing.T) {
	var s seen
	rt := router(canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{}), Observe: s.observe})
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if w, _ := answer(rt, r); w.Header().Get("Set-Cookie") != "" {
		t.Error("a cookie is set")
	}
	if o := s.take(t, 1)[0]; o.Unit() != "" {
		t.Errorf("the unit is %q", o.Unit())
	}
}

// Routers that share a Cookie give a visitor the same Unit, in its first request too.
func TestNestedRoutersHaveTheSameUnit(t *testing.T) {
	var s seen
	opts := canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{}), Observe: s.observe, Logger: quiet}
	inner := canary.NewRouter(v1, v2, opts)
	outer := canary.NewRouter(inner, inner, opts)
	v := newVisitor(t)
	for range 3 {
		v.visit(outer)
		all := s.take(t, 2)
		if all[0].Unit() != all[1].Unit() || all[0].Unit() == "" {
			t.Errorf("the units are %q and %q", all[0].Unit(), all[1].Unit())
		}
	}
}

// Both outcomes of a rescued request have its Unit.
func TestSecondTryHasTheUnitOfTheFirst(t *testing.T) {
	var s seen
	fails := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bad") })
	rt := canary.NewRouter(v1, fails, canary.Options{
		Weight: canary.Fixed(1 - 1e-9), Key: byHeader, Rescue: &canary.Rescue{}, Observe: s.observe, Logger: quiet,
	})
	ask(rt, "User", "somebody")
	for _, o := range s.take(t, 2) {
		if o.Unit() != "somebody" {
			t.Errorf("%s has the unit %q", what(o), o.Unit())
		}
	}
}

// The Unit of a visitor is no allocation for a caller that does not keep it, such as one that looks for its place in the cohort.
func TestUnitThatIsNotKeptAllocatesNothing(t *testing.T) {
	for _, way := range ways(t) {
		if way.name != "cookie" && way.name != "key" {
			continue
		}
		var s seen
		way.opts.Observe = s.observe
		answer(router(way.opts), request(way.headers...))
		o, place := s.take(t, 1)[0], 0.0
		if n := testing.AllocsPerRun(1000, func() { place += points.Point("salt", o.Unit()) }); n != 0 || o.Unit() == "" {
			t.Errorf("%s: %v allocations for %q", way.name, n, o.Unit())
		}
	}
}
