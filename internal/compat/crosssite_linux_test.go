package compat

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// shops are the handlers of a POST from another site that are tried.
func shops() []*shop {
	nothing := func(*http.Request) error { return nil }
	reads := func(r *http.Request) error {
		user, ok, err := session.Get[string](r.Context(), "user")
		if ok {
			err = errors.New("the request is that of " + user)
		}
		return err
	}
	login := func(r *http.Request) error { return session.Put(r.Context(), "user", "ann") }
	renews := func(r *http.Request) error { return errors.Join(session.Renew(r.Context()), login(r)) }
	cohort := &shop{name: "cohort"}
	cohort.paid = func(r *http.Request) error {
		if id := cohort.sm.Cohort(r); id != "" {
			return errors.New("the request has the cohort " + id)
		}
		return nil
	}
	return []*shop{
		{name: "unused", paid: nothing},
		{name: "read", paid: reads},
		cohort,
		{name: "routers", paid: nothing, routers: true},
		{name: "login", paid: login, writes: true},
		{name: "first-login", paid: login, writes: true, fresh: true},
		{name: "renewed", paid: renews, writes: true},
		{name: "login-routers", paid: login, writes: true, routers: true},
	}
}

// A visitor who comes back from another site by a form POST, to which the browser adds no cookie, is who the visitor was before,
// unless the handler of the POST writes to the session or renews it: a login by such a POST counts.
func TestVisitorsComeBackFromAnotherSite(t *testing.T) {
	bank := httptest.NewServer(http.HandlerFunc(form))
	t.Cleanup(bank.Close)
	end := make(chan struct{}, 1)
	all := shops()
	next := ""
	for i := len(all) - 1; i >= 0; i-- { // the last shop leads to the end, each other shop to the next
		s := all[i]
		s.next = next
		srv := httptest.NewUnstartedServer(nil)
		s.base = on("127.0.0.1", srv.Listener)
		s.bank = on("localhost", bank.Listener) + "/?to=" + s.base + "/paid"
		if next == "" {
			s.next = s.base + "/end"
		}
		h := s.handler(t.TempDir())
		srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/end" {
				select {
				case end <- struct{}{}:
				default: // the browser has asked again
				}
				return
			}
			h.ServeHTTP(w, r)
		})
		srv.Start()
		t.Cleanup(srv.Close)
		next = s.start()
	}
	ended := startBrowser(t, next)
	select {
	case <-end:
	case <-ended:
		t.Error("the browser has ended")
	case <-time.After(deadline):
		t.Errorf("the browser has not been on all pages after %v", deadline)
	}
	for _, s := range all {
		t.Run(s.name, s.check)
	}
}

func (s *shop) check(t *testing.T) {
	before, post, thanks, again := s.at("/pay"), s.at("/paid"), s.at("/thanks"), s.at("/again")
	t.Logf("\nbefore   %v\nthe POST %v\nthanks   %v\nafter    %v", before, post, thanks, again)
	for page, v := range map[string]visit{"/pay": before, "/paid": post, "/thanks": thanks, "/again": again} {
		if v.err != nil {
			t.Errorf("%s: %v", page, v.err)
		}
	}
	if post.cookies != "" || post.from != "cross-site" {
		t.Errorf("the POST has the cookies %q and is %q: nothing was tried", post.cookies, post.from)
	}
	user := "joe"
	if s.fresh {
		user = ""
	}
	if before.user != user {
		t.Errorf("before the POST: %v", before)
	}
	if s.writes {
		before.user, before.cohort, before.sides, before.cookies = "ann", again.cohort, again.sides, again.cookies
	}
	for page, v := range map[string]visit{"/thanks": thanks, "/again": again} {
		if v.user != before.user || v.cohort != before.cohort || v.sides != before.sides || v.cookies != before.cookies {
			t.Errorf("%s: %v", page, v)
		}
	}
}
