package session_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"context"
	"github.com/midair-go/midair/session"
	"net/http"
	"net/http/httptest"
)

// A session ends when it was not used for Idle; a request that reads it is a use.
func TestAnIdleSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(session.Dir(t.TempDir()), session.Options{Idle: time.Hour})
		v := newVisitor(t, s)
		v.get("/put?k=k&v=v")
		for range 5 {
			time.Sleep(59 * time.Minute)
			v.want("/get?k=k", "v true")
		}
		time.Sleep(30 * time.Minute)
		v.get("/plain") // does not use it
		time.Sleep(31 * time.Minute)
		v.want("/get?k=k", " false")
		v.want("/count", "1")
	})
}

// However much a session is used, it ends after Lifetime; a renewal begins a new one.
func TestASessionEndsAfterItsLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(session.Dir(t.TempDir()), session.Options{Idle: time.Hour, Lifetime: 3 * time.Hour})
		use := func(v *visitor, d time.Duration) {
			for range d / (10 * time.Minute) {
				time.Sleep(10 * time.Minute)
				v.get("/count")
			}
		}
		v := newVisitor(t, s)
		v.get("/put?k=k&v=v")
		use(v, 170*time.Minute)
		v.want("/get?k=k", "v true")
		use(v, 10*time.Minute)
		v.want("/get?k=k", " false")

		v.get("/put?k=k&v=v")
		use(v, 170*time.Minute)
		v.get("/renew")
		use(v, 170*time.Minute)
		v.want("/get?k=k", "v true")
		use(v, 10*time.Minute)
		v.want("/get?k=k", " false")
	})
}

// The expiry is moved once in a while, not with each request, and never by writing the data.
func TestTheExpiryIsMovedRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy(t)
		s := newSite(store, session.Options{Idle: 16 * time.Minute})
		v := newVisitor(t, s)
		v.get("/put?k=k&v=v")
		ops := map[string]int{}
		store.on(func(op, _ string) error { ops[op]++; return nil })
		for range 600 {
			time.Sleep(time.Second)
			v.get("/get?k=k")
		}
		if ops["touch"] < 9 || ops["touch"] > 10 || ops["swap"] != 0 || ops["load"] != 600 {
			t.Errorf("%v", ops)
		}
	})
}

// An expiry that cannot be moved is logged, and the request is served.
func TestAFailedTouchIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		store := newSpy(t)
		s := newSite(store, session.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		v := newVisitor(t, s)
		v.get("/put?k=k&v=v")
		answer := session.ErrNotFound
		store.on(func(op, _ string) error {
			if op == "touch" {
				return answer
			}
			return nil
		})
		time.Sleep(2 * time.Hour)
		v.want("/get?k=k", "v true")
		if log.Len() != 0 {
			t.Errorf("a session that has just ended was logged: %s", &log)
		}
		answer = errors.New("disk full")
		v.want("/get?k=k", "v true")
		synctest.Wait() // the line is written by another goroutine
		if !strings.Contains(log.String(), "disk full") {
			t.Errorf("%s", &log)
		}
	})
}

// The cookie is made anew when half of its life is over, so that a visitor who comes back keeps it.
func TestTheCookieIsMadeAnewInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(session.Dir(t.TempDir()), session.Options{Idle: 48 * time.Hour, Lifetime: 48 * time.Hour})
		v := newVisitor(t, s)
		v.want("/count", "1")
		first := v.value()
		time.Sleep(23 * time.Hour)
		v.get("/cohort")
		if v.value() != first {
			t.Error("the cookie was made anew too early")
		}
		time.Sleep(2 * time.Hour)
		v.get("/plain")
		if v.value() != first {
			t.Error("a request that used nothing got a cookie")
		}
		v.get("/get?k=other")
		if v.value() == first {
			t.Error("the cookie was not made anew")
		}
		v.want("/count", "2")
	})
}

// A store that cannot give its secret is asked again, and the cookies made meanwhile stay good.
func TestAStoreWithoutItsSecretIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &forgetful{DirStore: session.Dir(t.TempDir()), failures: 2}
		s := newSite(store, session.Options{})
		v := newVisitor(t, s)
		v.want("/count", "1")
		v.want("/count", "2")
		if store.asked != 1 {
			t.Errorf("asked %d times in a moment", store.asked)
		}
		time.Sleep(2 * time.Second)
		if err := s.sm.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no key") {
			t.Errorf("Ready = %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := s.sm.Ready(t.Context()); err != nil {
			t.Errorf("Ready = %v", err)
		}
		before := v.value()
		v.want("/count", "3")
		if v.value() == before {
			t.Error("the cookie was not made anew by the store's key")
		}
		v = v.with(newSite(store, session.Options{})) // a restart
		v.want("/count", "4")
	})
}

// A visitor whose cookie is due to be made anew has its token, and a handler may write after the client has gone.
func TestAnAgedCookieDoesNotRefuseALateWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(session.Dir(t.TempDir()), session.Options{Idle: 29 * 24 * time.Hour})
		v := newVisitor(t, s)
		v.get("/put?k=k&v=v")
		time.Sleep(16 * 24 * time.Hour)
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", "session="+v.value())
		ctx, cancel := context.WithCancel(r.Context())
		s.sm.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if text, ok, err := session.Get[string](r.Context(), "k"); text != "v" || !ok || err != nil {
				t.Errorf("%q, %v, %v", text, ok, err)
			}
			cancel() // the client goes
			if err := session.Put(context.WithoutCancel(r.Context()), "order", "done"); err != nil {
				t.Error(err)
			}
		})).ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		v.want("/get?k=order", "done true")
	})
}
