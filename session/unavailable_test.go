package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// calls are all functions of the package that need the store.
var calls = map[string]func(ctx context.Context) error{
	"Get":     func(ctx context.Context) error { _, _, err := session.Get[string](ctx, "k"); return err },
	"Put":     func(ctx context.Context) error { return session.Put(ctx, "k", "w") },
	"Renew":   session.Renew,
	"Destroy": session.Destroy,
}

// within runs fn in a request of the visitor.
func within(s *site, v *visitor, fn func(ctx context.Context)) *http.Response {
	w := httptest.NewRecorder()
	s.sm.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { fn(r.Context()) })).ServeHTTP(w, v.request("/"))
	return w.Result()
}

// Every failure of a store is ErrUnavailable and the store's own error, and a page that needs no session does not notice it. The
// cookie stays, and the session is there afterwards.
func TestAStoreThatFailsIsUnavailable(t *testing.T) {
	dead := errors.New("connection refused")
	store := newSpy(t)
	s := newSite(store, session.Options{})
	v := newVisitor(t, s)
	v.get("/put?k=k&v=v")
	for name, call := range calls {
		for _, only := range []string{"load", "swap", "create", ""} {
			if only != "" && only != "load" && name == "Get" || only == "create" && name != "Renew" {
				continue
			}
			store.on(func(op, _ string) error {
				if only == "" || op == only {
					return dead
				}
				return nil
			})
			res := within(s, v, func(ctx context.Context) {
				if err := call(ctx); !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, dead) {
					t.Errorf("%s, %s: %v", name, only, err)
				}
			})
			if setsCookie(res) {
				t.Errorf("%s, %s: a cookie", name, only)
			}
		}
	}
	before := store.calls.Load()
	v.want("/plain", "plain")
	v.get("/cohort")
	within(s, v, func(ctx context.Context) {
		if _, ok := s.sm.Started(v.request("/")); !ok {
			t.Error("Started fails")
		}
	})
	if n := store.calls.Load() - before; n != 0 {
		t.Errorf("%d calls of the store", n)
	}
	if err := s.sm.Ready(t.Context()); !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, dead) {
		t.Errorf("Ready = %v", err)
	}
	store.on(nil)
	v.want("/get?k=k", "v true")
}

// A store that hangs is waited for as long as Timeout says, or as the caller's deadline says if that is earlier. The answer says
// that time was over. A caller who has given up gets that, and nothing is said about the store.
func TestAStoreThatHangsEndsInTime(t *testing.T) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				good := session.Dir(t.TempDir())
				v := newVisitor(t, newSite(good, session.Options{Keys: ring(t, "a")}))
				v.get("/put?k=k&v=v")
				s := newSite(newHungStore(good), session.Options{Keys: ring(t, "a"), Timeout: 3 * time.Second})
				hangs(t, s, v, call)
				if got := s.sm.Status().Failures; got != 2 {
					t.Errorf("%d failures counted", got)
				}
			})
		})
	}
}

func hangs(t *testing.T, s *site, v *visitor, call func(context.Context) error) {
	for _, c := range []struct {
		limit, want time.Duration
		cancel      bool
		unavailable bool
		is          error
	}{
		{0, 3 * time.Second, false, true, context.DeadlineExceeded},
		{time.Second, time.Second, false, true, context.DeadlineExceeded},
		{time.Second, time.Second, true, false, context.Canceled},
	} {
		within(s, v, func(ctx context.Context) {
			if c.cancel {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				time.AfterFunc(c.limit, cancel)
			} else if c.limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.limit)
				defer cancel()
			}
			begin := time.Now()
			err := call(ctx)
			if took := time.Since(begin); took != c.want || errors.Is(err, session.ErrUnavailable) != c.unavailable || !errors.Is(err, c.is) ||
				!errors.Is(err, errInterrupted) {
				t.Errorf("%+v: after %v: %v", c, took, err)
			}
		})
	}
}

// A renewal whose store hangs in the middle ends soon after its deadline, and the session is there.
func TestARenewalThatHangsEndsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy(t)
		s := newSite(store, session.Options{})
		v := newVisitor(t, s)
		v.get("/count")
		hung := func(op, _ string) error {
			if op == "create" {
				return nil
			}
			return context.DeadlineExceeded
		}
		within(s, v, func(ctx context.Context) {
			session.Get[int](ctx, "count")
			store.on(hung)
			begin := time.Now()
			if err := session.Renew(ctx); !errors.Is(err, session.ErrUnavailable) || time.Since(begin) > 5*time.Second {
				t.Errorf("Renew = %v after %v", err, time.Since(begin))
			}
		})
		store.on(nil)
		v.want("/count", "2")
	})
}

// A process that starts while its store hangs serves pages without a session, at first after KeyPatience at most and then at
// once. Nobody is logged out by that: a visitor whose cookie cannot be read yet gets no other, and has the session when the
// store is there.
func TestAStartWithoutTheStoreLogsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := plainStore{session.Dir(t.TempDir())}
		v := newVisitor(t, newSite(good, session.Options{}))
		cohort := v.get("/cohort")
		v.get("/put?k=k&v=v")
		before := v.value()

		hung := newHungStore(good)
		s := startedSite(hung, session.Options{Timeout: 2 * time.Second})
		v = v.with(s)
		for n := range 20 {
			begin := time.Now()
			v.want("/plain", "plain")
			v.want("/cohort", "")
			v.want("/started", "none")
			newVisitor(t, s).get("/cohort")
			if took := time.Since(begin); n > 0 && took != 0 || took > session.KeyPatience {
				t.Errorf("round %d took %v", n, took)
			}
			time.Sleep(time.Second)
		}
		for name, call := range calls {
			res := within(s, v, func(ctx context.Context) {
				begin := time.Now()
				if err := call(ctx); !errors.Is(err, session.ErrUnavailable) || time.Since(begin) > 2*time.Second {
					t.Errorf("%s: %v after %v", name, err, time.Since(begin))
				}
			})
			if setsCookie(res) {
				t.Errorf("%s: a cookie", name)
			}
		}
		close(hung.hung)
		time.Sleep(4 * time.Second)
		v.want("/get?k=k", "v true")
		v.want("/cohort", cohort)
		if v.value() != before {
			t.Error("the cookie was replaced")
		}
		if n := s.sm.Status().Refused; n != 0 {
			t.Errorf("%d cookies refused", n)
		}
	})
}

// A cold start waits for a store that is only slow when the session is used.
func TestASlowKeyIsWaitedForByUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := plainStore{session.Dir(t.TempDir())}
		v := newVisitor(t, newSite(good, session.Options{}))
		v.get("/put?k=k&v=v")
		hung := newHungStore(good)
		s := newSite(hung, session.Options{})
		time.AfterFunc(4*time.Second, func() { close(hung.hung) })
		v = v.with(s)
		begin := time.Now()
		v.want("/get?k=k", "v true")
		if took := time.Since(begin); took != 4*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A store with five methods keeps the secret of the cookies as a record, which is one for all processes and outlives them.
func TestAPlainStoreKeepsTheSecret(t *testing.T) {
	dir := t.TempDir()
	sites := make([]*site, 8)
	var all sync.WaitGroup
	for n := range sites {
		all.Go(func() {
			sites[n] = newSite(plainStore{session.Dir(dir)}, session.Options{})
			if err := sites[n].sm.Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	v := newVisitor(t, sites[0])
	for n, s := range append(sites, newSite(plainStore{session.Dir(dir)}, session.Options{})) {
		v = v.with(s)
		v.want("/count", fmt.Sprint(n+1))
	}
	rec, err := session.Dir(dir).Load(t.Context(), "secret")
	if years := time.Until(rec.Expires).Hours() / 24 / 365; err != nil || years < 99 || years > 101 {
		t.Errorf("%v, it lives for %v years", err, years)
	}
}

// On a store that takes no writes, sessions are read, a write is ErrUnavailable, and new processes can read the cookies.
func TestAReadOnlyStoreIsRead(t *testing.T) {
	store := newSpy(t)
	v := newVisitor(t, newSite(plainStore{store}, session.Options{}))
	v.get("/put?k=k&v=v")
	readOnly := errors.New("read only")
	store.on(func(op, _ string) error {
		if op == "load" {
			return nil
		}
		return readOnly
	})
	s := newSite(plainStore{store}, session.Options{})
	v = v.with(s)
	v.want("/get?k=k", "v true")
	within(s, v, func(ctx context.Context) {
		if err := session.Put(ctx, "k", "w"); !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, readOnly) {
			t.Errorf("Put = %v", err)
		}
	})
	v.want("/get?k=k", "v true")
}

// Two processes that make the secret at the same moment have the same one.
func TestTheSecretIsMadeOnce(t *testing.T) {
	store := newSpy(t)
	first := newSite(plainStore{store.Store}, session.Options{})
	store.on(func(op, id string) error {
		if op == "create" && id == "secret" { // the other process comes first
			return first.sm.Ready(t.Context())
		}
		return nil
	})
	second := newSite(plainStore{store}, session.Options{})
	if err := second.sm.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := newVisitor(t, first)
	v.want("/count", "1")
	v.with(second).want("/count", "2")
}
