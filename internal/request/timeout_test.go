package request_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/session"
)

// A tardy handler goes on after the timeout, and uses everything that the request has.
type tardy struct {
	t      *testing.T
	sm     *session.Manager
	result chan [2]error // of Put and Renew
}

func (h *tardy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/get" {
		text, _, err := session.Get[string](r.Context(), "k")
		fmt.Fprint(w, text, err)
		return
	}
	if r.URL.Path == "/cohort" {
		h.sm.Cohort(r)
		return
	}
	<-r.Context().Done()
	ctx := context.WithoutCancel(r.Context())
	var put, renew error
	var all sync.WaitGroup
	all.Go(func() { put = session.Put(ctx, "k", "late") })
	all.Go(func() { renew = session.Renew(ctx) })
	all.Go(func() {
		session.Get[string](ctx, "k")
		h.sm.Cohort(r)
		if _, ok := canary.SideFromContext(ctx); !ok {
			h.t.Error("the side is not known after the timeout")
		}
	})
	all.Go(func() {
		w.Header().Set("Late", "1")
		io.WriteString(w, "late")
	})
	all.Wait()
	h.result <- [2]error{put, renew}
}

// A handler that goes on after an http.TimeoutHandler has answered for it can use its session. What it is told to be stored is
// what the visitor finds in the next request, and what needs a cookie is refused unless the cookie reaches the visitor.
func TestAHandlerMayGoOnAfterItsTimeout(t *testing.T) {
	timeout := func(next http.Handler) http.Handler { return http.TimeoutHandler(next, 2*time.Millisecond, "too late") }
	s := newStack(t)
	router := s.router(canary.Options{})
	for name, list := range map[string][]middleware{
		"around everything":    {timeout, s.sm.Middleware, router},
		"around the router":    {s.sm.Middleware, timeout, router},
		"around the handler":   {s.sm.Middleware, router, timeout},
		"around the session":   {router, timeout, s.sm.Middleware},
		"around each of these": {timeout, s.sm.Middleware, timeout, router, timeout},
	} {
		for _, first := range []string{"/cohort", ""} {
			t.Run(name+", first "+first, func(t *testing.T) {
				h := &tardy{t, s.sm, make(chan [2]error, 1)}
				slow, quick := chain(h, list...), s.sm.Middleware(h)
				srv := start(t, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/slow" {
						slow.ServeHTTP(w, r)
					} else {
						quick.ServeHTTP(w, r)
					}
				}))
				for range 20 {
					srv.Client().Jar, _ = cookiejar.New(nil)
					if first != "" {
						ask(t, srv, "GET", first)
					}
					if res, _ := ask(t, srv, "GET", "/slow"); res.StatusCode != http.StatusServiceUnavailable {
						t.Fatal(res.Status)
					}
					result, want := <-h.result, "late<nil>"
					for i, err := range result {
						if err != nil && !errors.Is(err, session.ErrHeaderSent) {
							t.Errorf("%s = %v", []string{"Put", "Renew"}[i], err)
						}
					}
					if result[0] != nil {
						want = "<nil>"
					}
					if _, got := ask(t, srv, "GET", "/get"); got != want {
						t.Errorf("the visitor finds %q after Put = %v, Renew = %v", got, result[0], result[1])
					}
				}
			})
		}
	}
}
