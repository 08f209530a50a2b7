package request_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/session"
)

// shadow is a middleware as users write it: the request goes to a second handler at the same time, whose answer is dropped.
func shadow(second http.Handler) middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var left sync.WaitGroup
			copied := r.Clone(r.Context())
			copied.Header.Set("Canary", "true")
			left.Go(func() { second.ServeHTTP(httptest.NewRecorder(), copied) })
			next.ServeHTTP(w, r)
			left.Wait()
		})
	}
}

// sees is a handler that must find a side, or none if side is "".
func sees(t *testing.T, side string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			got, ok := canary.SideFromContext(r.Context())
			if ok != (side != "") || ok && got.String() != side {
				t.Errorf("the handler for %q finds %v, %v", side, got, ok)
			}
		}
		session.Get[string](r.Context(), "k")
		w.Write(sixBytes)
	})
}

// A request that is served twice at once has one side in each of the two answers, and neither sees that of the other one.
func TestAShadowKeepsItsOwnSide(t *testing.T) {
	s := newStack(t)
	opts := canary.Options{SideInContext: true}
	opts.Choose, opts.Vary = canary.ByHeader("canary")
	both := canary.NewRouter(sees(t, "stable"), sees(t, "canary"), opts)
	for name, list := range map[string][]middleware{
		"both routed":          {s.sm.Middleware, shadow(both), func(http.Handler) http.Handler { return both }},
		"shadow routed":        {s.sm.Middleware, shadow(both), func(http.Handler) http.Handler { return sees(t, "") }},
		"routed again":         {s.sm.Middleware, shadow(canary.NewRouter(both, both, opts)), func(http.Handler) http.Handler { return both }},
		"without a session":    {shadow(both), func(http.Handler) http.Handler { return sees(t, "") }},
		"session further in":   {shadow(s.sm.Middleware(both)), s.sm.Middleware, func(http.Handler) http.Handler { return both }},
		"inside of the router": {s.sm.Middleware, func(h http.Handler) http.Handler { return canary.NewRouter(h, nil, opts) }, shadow(both), func(http.Handler) http.Handler { return sees(t, "stable") }},
	} {
		t.Run(name, func(t *testing.T) {
			h := chain(nil, list...)
			for range 100 {
				r := get()
				r.Header.Set("Cookie", s.cookie)
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}

// A visitor without a cookie gets one with the answer, even if the shadow, whose answer is dropped, was decided first. Both
// answers of the session's cohort are about the same visitor.
func TestAShadowDoesNotTakeTheCookie(t *testing.T) {
	s := newStack(t)
	cookie := canary.NewCookie("visitor", canary.CookieOptions{})
	opts := canary.Options{Weight: canary.Fixed(0.5), Cookie: cookie, SideInContext: true}
	for name, opts := range map[string]canary.Options{
		"Cookie": opts, "Key": {Weight: opts.Weight, Key: s.sm.Cohort, SideInContext: true},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{}, 1)
			router := func() http.Handler { return canary.NewRouter(http.HandlerFunc(plain), http.HandlerFunc(plain), opts) }
			first := func(next http.Handler) http.Handler { // the shadow has ended before the answer begins
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					router().ServeHTTP(httptest.NewRecorder(), r.Clone(r.Context()))
					done <- struct{}{}
					next.ServeHTTP(w, r)
				})
			}
			for i, list := range [][]middleware{{s.sm.Middleware, first}, {s.sm.Middleware, shadow(router())}} {
				for range 50 {
					for _, method := range []string{"GET", "POST"} {
						w := httptest.NewRecorder()
						chain(router(), list...).ServeHTTP(w, httptest.NewRequest(method, "/", nil))
						if n := len(w.Result().Cookies()); n != 1 {
							t.Fatalf("%s, stack %d: %d cookies", method, i, n)
						}
						if i == 0 {
							<-done
						}
					}
				}
			}
		})
	}
}

// A fallback as users write it: the first handler answers into a buffer that is dropped, and the second one for the client.
func TestADroppedAnswerDoesNotTakeTheHooks(t *testing.T) {
	s := newStack(t)
	cookie := canary.NewCookie("visitor", canary.CookieOptions{})
	rt := canary.NewRouter(http.HandlerFunc(plain), http.HandlerFunc(plain),
		canary.Options{Weight: canary.Fixed(0.5), Cookie: cookie, SideInContext: true})
	h := s.sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rt.ServeHTTP(httptest.NewRecorder(), r)
		rt.ServeHTTP(w, r)
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, get())
	if n := len(w.Result().Cookies()); n != 1 || w.Header().Get("Vary") == "" {
		t.Errorf("%d cookies, header %v", n, w.Header())
	}
}
