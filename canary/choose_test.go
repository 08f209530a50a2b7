package canary_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/session"
)

// A client chooses its side by header or by cookie, in any case of the letters, and other values have no meaning.
func TestClientsChooseTheirSide(t *testing.T) {
	cookie := canary.Options{}
	cookie.Choose, cookie.Vary = canary.ByCookie("try")
	for _, v := range []struct {
		opts        canary.Options
		name, value string
		at0, at1    string // the side at weight 0 and at weight 1
	}{
		{headed(canary.Options{}, "x-try"), "X-Try", "true", "canary", "canary"},
		{headed(canary.Options{}, "x-try"), "X-Try", "False", "stable", "stable"},
		{headed(canary.Options{}, "x-try"), "X-Try", "1", "stable", "canary"},
		{headed(canary.Options{}, ""), "X-Try", "true", "stable", "canary"},
		{cookie, "Cookie", "a=b; try=TRUE", "canary", "canary"},
		{cookie, "Cookie", "try=false; try=true", "stable", "stable"},
		{cookie, "Cookie", "try=perhaps; try=true", "canary", "canary"},
		{cookie, "Cookie", "retry=true; try=", "stable", "canary"},
		{cookie, "Cookie", "", "stable", "canary"},
	} {
		for weight, want := range []string{v.at0, v.at1} {
			v.opts.Weight = canary.Fixed(float64(weight))
			if got := ask(router(v.opts), v.name, v.value); got != want {
				t.Errorf("weight %d, %s: %q is answered by %s, want %s", weight, v.name, v.value, got, want)
			}
		}
	}
}

// A route chooses the side of its requests, whatever the weight, and of no others.
func TestRoutesChooseTheSide(t *testing.T) {
	var opts canary.Options
	var err error
	opts.Choose, opts.Vary, err = canary.ByRoute(canary.Canary, "POST /orders", "/beta/", "GET /list")
	must(t, err)
	opts.Logger = quiet
	rt := canary.NewRouter(v1, v2, opts)
	for request, want := range map[string]string{
		"POST /orders": "canary", "GET /orders": "stable", "POST /orders/1": "stable", "GET /beta/": "canary", "PUT /beta/x/y": "canary",
		"GET /beta": "stable", "GET /list": "canary", "HEAD /list": "canary", "POST /list": "stable", "GET /": "stable",
	} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Body.String() != want || len(w.Header()) > 1 || w.Header().Get("Vary") != "" {
			t.Errorf("%s is answered by %q with %v, want %s, and nothing for caches", request, w.Body, w.Header(), want)
		}
	}
	for _, bad := range []string{"", "orders", "POST orders", " /orders", "POST  /orders", "GET /a/{id}", "a.example/"} {
		if choose, vary, err := canary.ByRoute(canary.Canary, "/ok", bad); err == nil || choose != nil || vary != nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A choice says to caches what it depends on: the lines in Vary, or what nobody can compare if nothing is said. An empty list says
// that it depends on nothing but the URL.
func TestChoicesTellCaches(t *testing.T) {
	never := func(*http.Request) (canary.Side, bool) { return canary.Stable, false }
	for _, v := range []struct {
		vary          []string
		line, private string
	}{{nil, "*", "private"}, {[]string{}, "", ""}, {[]string{"X-A", "X-B"}, "X-A, X-B", ""}} {
		w := httptest.NewRecorder()
		router(canary.Options{Choose: never, Vary: v.vary}).ServeHTTP(w, request())
		if w.Header().Get("Vary") != v.line || w.Header().Get("Cache-Control") != v.private {
			t.Errorf("%q: %v", v.vary, w.Header())
		}
	}
}

// That a choice depends on the URL alone says nothing about the key: a cache must not give the answer for one key to others.
func TestARouteDoesNotHideTheKeyFromCaches(t *testing.T) {
	opts := canary.Options{Weight: half, Key: byHeader}
	var err error
	opts.Choose, opts.Vary, err = canary.ByRoute(canary.Canary, "/beta/")
	must(t, err)
	w := httptest.NewRecorder()
	router(opts).ServeHTTP(w, request("User", "joe"))
	if w.Header().Get("Vary") != "*" || w.Header().Get("Cache-Control") != "private" {
		t.Errorf("%v", w.Header())
	}
}

// A Choose that panics, or names a side that does not exist, costs no request: each is stable and counted, whatever the weight.
func TestPanicInChooseIsStable(t *testing.T) {
	for name, choose := range map[string]func(*http.Request) (canary.Side, bool){
		"panic": func(*http.Request) (canary.Side, bool) { panic("no map") },
		"side":  func(*http.Request) (canary.Side, bool) { return 7, true },
	} {
		rt := router(canary.Options{Choose: choose, Weight: canary.Fixed(1)})
		for range 3 {
			if got := ask(rt); got != "stable" {
				t.Errorf("%s: answered by %s", name, got)
			}
		}
		if s := rt.Status(); s.ChoosePanics != 3 || s.Stable.Requests != 3 || s.WeightPanics != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	ignored := func(*http.Request) (canary.Side, bool) { return 7, false }
	if rt := router(canary.Options{Choose: ignored, Weight: canary.Fixed(1)}); ask(rt) != "canary" || rt.Status().ChoosePanics != 0 {
		t.Error("a side that is not chosen counts")
	}
}

// Visitors whose session began before the rollout stay with the version that they know, and new ones are drawn. Caches hear that the
// answer depends on the cookie.
func TestOldSessionsStayOnStable(t *testing.T) {
	sm := session.NewManager(session.Memory(), session.Options{Logger: quiet})
	rollout := time.Now().Add(time.Hour)
	old, fresh := "", ""
	rt := router(canary.Options{Weight: canary.Fixed(1), Choose: func(r *http.Request) (canary.Side, bool) {
		began, ok := sm.Started(r)
		return canary.Stable, ok && began.Before(rollout)
	}})
	h := sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		must(t, session.Put(r.Context(), "k", "v"))
		rt.ServeHTTP(w, r)
	}))
	for _, v := range []struct{ cookie, want *string }{{&old, new("canary")}, {&old, new("stable")}, {&fresh, new("canary")}} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request("Cookie", *v.cookie))
		if got := w.Body.String(); got != *v.want || w.Header().Get("Vary") != "Cookie" {
			t.Errorf("with the cookie %.20q answered by %s with %v, want %s", *v.cookie, got, w.Header(), *v.want)
		}
		for _, c := range w.Result().Cookies() {
			*v.cookie = c.Name + "=" + c.Value
		}
	}
	rollout = time.Now().Add(-time.Hour)
	if w := httptest.NewRecorder(); true {
		h.ServeHTTP(w, request("Cookie", fresh))
		if w.Body.String() != "canary" {
			t.Errorf("a session that began after the rollout is answered by %s", w.Body)
		}
	}
	if s := rt.Status(); s.Stable.Forced != 1 || s.Canary.Forced != 0 {
		t.Errorf("%+v", s)
	}
}

// A side that Choose returns with false is not chosen, at any weight.
func TestSideThatIsNotChosenCountsAtNoWeight(t *testing.T) {
	for _, weight := range []float64{0, 1e-12} {
		for _, side := range []canary.Side{canary.Canary, 7} {
			t.Run(fmt.Sprint(weight, " ", uint8(side)), func(t *testing.T) {
				rt := router(canary.Options{Weight: canary.Fixed(weight), Choose: func(*http.Request) (canary.Side, bool) { return side, false }})
				w, p := answer(rt, request())
				if p != nil || w.Body.String() != "stable" {
					t.Errorf("answered by %q, panic %v", w.Body, p)
				}
			})
		}
	}
}
