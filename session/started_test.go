package session_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// startedSite answers /started with the time of Started.
func startedSite(store session.Store, opts session.Options) *site {
	s := newSite(store, opts)
	s.handle("/started", func(r *http.Request) (string, error) {
		began, ok := s.sm.Started(r)
		if !ok {
			return "none", nil
		}
		return began.UTC().Format(time.TimeOnly), nil
	})
	return s
}

// The time of a session stays through writes, renewals and cookies that are made anew, and a logout begins anew. It costs no
// access to the store, and the answer depends on the cookie.
func TestTheTimeOfASessionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy(t)
		s := startedSite(store, session.Options{Idle: 60 * 24 * time.Hour})
		v := newVisitor(t, s)
		v.want("/started", "none")
		time.Sleep(time.Second)
		v.want("/count", "1")
		for _, path := range []string{"/count", "/renew", "/login", "/renew"} {
			time.Sleep(7 * 24 * time.Hour)
			v.get(path)
			calls := store.calls.Load()
			v.want("/started", "00:00:01")
			if store.calls.Load() != calls {
				t.Errorf("%s: the store was asked", path)
			}
		}
		time.Sleep(2 * time.Second)
		v.get("/logout")
		v.want("/started", "00:00:03")
		res := v.do("/started")
		if res.Header.Get("Vary") != "Cookie" || setsCookie(res) {
			t.Errorf("header %v", res.Header)
		}
		began, ok := s.sm.Started(v.request("/")) // outside of the middleware
		if !ok || began.UTC().Format(time.TimeOnly) != "00:00:03" {
			t.Errorf("%v %v", began, ok)
		}
	})
}

// An id of a renewal is not one that may be created again: when its record is lost, the next write makes another one, however
// young the session is. A renewal of nothing has an id that may be created, as every first cookie has.
func TestARenewedIdIsNotAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startedSite(session.Dir(t.TempDir()), session.Options{})
		v := newVisitor(t, s)
		v.get("/count")
		time.Sleep(2 * time.Hour)
		v.get("/renew")
		lost := startedSite(session.Dir(t.TempDir()), session.Options{Keys: s.sm.Keys()})
		v = v.with(lost)
		before := v.value()
		v.want("/count", "1")
		if v.value() == before {
			t.Error("the id was adopted")
		}
		v.want("/started", "02:00:00")

		v = newVisitor(t, s)
		v.get("/cohort")
		time.Sleep(50 * time.Minute)
		v.get("/renew") // there is no record
		v.want("/started", "02:50:00")
		first := v.with(s)
		time.Sleep(50 * time.Minute)
		v.want("/count", "1")
		first.want("/count", "2")
	})
}

// A session that was renewed in its first hour and is destroyed then cannot be made again, neither under the old id nor under the
// new one.
func TestNoIdOfARenewedSessionComesBack(t *testing.T) {
	onFakeTime(t, func(t *testing.T, s *site, v *visitor) {
		v.get("/put?k=secret&v=1")
		time.Sleep(10 * time.Minute)
		olds := []*visitor{v.with(s)}
		v.get("/renew")
		olds = append(olds, v.with(s))
		time.Sleep(10 * time.Minute)
		v.get("/logout")
		for range 60 {
			time.Sleep(2 * time.Minute)
			for _, old := range olds {
				again := old.with(s)
				again.want("/get?k=secret", " false")
				again.want("/count", "1")
				if again.value() == old.value() {
					t.Fatal("a destroyed id is in use")
				}
			}
		}
	})
}

// A request that uses no session costs nothing beyond the shared slot, whatever the options are, and with Started and Cohort too;
// the store is dead meanwhile.
func TestAnUntouchedSessionCostsNothingWithAllOptions(t *testing.T) {
	store := newSpy(t)
	opts := session.Options{Secure: true, BrowserCookie: true, Import: func(*http.Request) (map[string]any, bool) {
		t.Error("Import was called")
		return nil, false
	}}
	opts.Keys = ring(t, "ab")
	s := newSite(store, opts)
	other := newSite(store, session.Options{Secure: true, Keys: opts.Keys})
	b := newBrowser(t)
	b.want(other, "/count", "1")
	store.on(func(op, _ string) error { return errors.New("dead") })
	calls := store.calls.Load()
	for name, line := range map[string]string{
		"both cookies": "a=b; " + b.line(), "the former one": "session=" + b.jar["session"].Value, "bad ones": "session=x; __Host-session=y",
		"none": "",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if line != "" {
			r.Header.Set("Cookie", line)
		}
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Method = "POST" // so that no cohort is made
		for use, fn := range map[string]func(*http.Request){
			"nothing": func(*http.Request) {},
			"cohort":  func(r *http.Request) { s.sm.Cohort(r) },
			"started": func(r *http.Request) { s.sm.Started(r) },
		} {
			h := s.sm.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { fn(r) }))
			w := discard{http.Header{}}
			again := name == "the former one" && use != "nothing" // the answer replaces it
			if n := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) }); n > 1 && !again {
				t.Errorf("%s, %s: %v allocations", name, use, n)
			}
			if n := testing.AllocsPerRun(100, func() { fn(r) }); n > 0 {
				t.Errorf("%s, %s, outside: %v allocations", name, use, n)
			}
		}
	}
	if n := store.calls.Load() - calls; n != 0 {
		t.Errorf("%d calls of the store", n)
	}
}
