package migrate_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// build is the new build.
func (l library) build(store session.Store) http.Handler {
	sm := session.NewManager(store, session.Options{Import: l.imports, Logger: slog.New(slog.DiscardHandler)})
	mux := http.NewServeMux()
	handle := func(path string, fn func(r *http.Request) (string, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			text, err := fn(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, text)
		})
	}
	handle("/me", func(r *http.Request) (string, error) {
		user, _, err := session.Get[string](r.Context(), "user")
		return user, err
	})
	handle("/since", func(r *http.Request) (string, error) {
		at, _, err := session.Get[time.Time](r.Context(), "since")
		return at.String(), err
	})
	handle("/count", func(r *http.Request) (string, error) {
		var n int
		err := session.Update(r.Context(), func(v *session.Values) error {
			n = 0
			if _, err := v.Get("count", &n); err != nil {
				return err
			}
			n++
			return v.Put("count", n)
		})
		return strconv.Itoa(n), err
	})
	handle("/logout", func(r *http.Request) (string, error) {
		return "", errors.Join(l.logout(r), session.Destroy(r.Context()))
	})
	return sm.Middleware(mux)
}

// A browser keeps cookies by name.
type browser struct {
	t       *testing.T
	mu      sync.Mutex
	cookies map[string]string
}

func newBrowser(t *testing.T) *browser { return &browser{t: t, cookies: map[string]string{}} }

// thief is somebody who has copied the cookies of b.
func (b *browser) thief() *browser { return &browser{t: b.t, cookies: maps.Clone(b.cookies)} }

func (b *browser) get(h http.Handler, path string) string {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), "GET", path, nil)
	b.mu.Lock()
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	b.mu.Unlock()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range w.Result().Cookies() {
		b.cookies[c.Name] = c.Value
	}
	if w.Code != http.StatusOK {
		b.t.Errorf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

func (b *browser) want(h http.Handler, path, body string) {
	b.t.Helper()
	if got := b.get(h, path); got != body {
		b.t.Errorf("%s: %q, want %q", path, got, body)
	}
}

// "Nobody is logged out": a visitor who has logged in with the old library goes on with the new one, whatever the first request
// does.
func TestVisitorsGoOnAfterTheDeploy(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, store session.Store) {
		for _, first := range []string{"/me", "/count"} {
			b := newBrowser(t)
			b.get(l.old, "/login")
			h := l.build(store)
			b.get(h, first)
			b.want(h, "/me", "ann")
			b.get(h, "/count")
			b.want(l.build(store), "/me", "ann") // after a restart
		}
	})
}

// A visitor whom the old library does not know is a new one, and so is one with a damaged cookie.
func TestStrangersAreNotImported(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, store session.Store) {
		b := newBrowser(t)
		b.want(l.build(store), "/me", "")
		b.cookies[l.cookie] = "not-of-this-library"
		b.want(l.build(store), "/me", "")
		b.want(l.build(store), "/count", "1")
	})
}

// The first requests after the deploy come at once, to two processes, and all of them write: they meet in one session.
func TestFirstRequestsMeetInOneSession(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, store session.Store) {
		for range 20 {
			b := newBrowser(t)
			b.get(l.old, "/login")
			processes := []http.Handler{l.build(store), l.build(store)}
			const requests = 8
			var all sync.WaitGroup
			copies := make([]*browser, requests)
			for i := range requests {
				copies[i] = b.thief()
				all.Go(func() { copies[i].get(processes[i%2], "/count") })
			}
			all.Wait()
			for _, one := range copies[:2] {
				one.want(processes[0], "/me", "ann")
			}
			copies[0].want(processes[1], "/count", strconv.Itoa(requests+1))
			copies[7].want(processes[0], "/count", strconv.Itoa(requests+2))
		}
	})
}

// After the logout the visitor is logged out: in the browser, and for whoever has the old cookie alone, the old one beside a
// cookie of something else, the new one, or both. So it stays, also when the end of the new session is forgotten.
func TestALogoutEndsTheOldSessionToo(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, store session.Store) {
		synctest.Test(t, func(t *testing.T) { logout(t, l, store) })
	})
}

func logout(t *testing.T, l library, store session.Store) {
	h := l.build(store)
	b := newBrowser(t)
	b.get(l.old, "/login")
	old, beside := b.thief(), b.thief()
	beside.cookies["other"] = "x"
	b.want(h, "/me", "ann")
	b.want(h, "/count", "1")
	both := b.thief()
	b.get(h, "/logout")
	for range 4 {
		for who, one := range map[string]*browser{"the browser": b, "the old cookie": old, "with another one": beside, "both": both} {
			if got := one.thief().get(h, "/me"); got != "" {
				t.Errorf("%s is %q after the logout", who, got)
			}
		}
		time.Sleep(time.Hour)
		h = l.build(store) // a restart
	}
	if !l.inCookie {
		old.want(l.old, "/me", "") // the old build after a rollback
	}
}

// The logout may be the first request after the deploy.
func TestTheFirstRequestMayBeALogout(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, store session.Store) {
		b := newBrowser(t)
		b.get(l.old, "/login")
		old := b.thief()
		b.get(l.build(store), "/logout")
		b.want(l.build(store), "/me", "")
		old.want(l.build(store), "/me", "")
	})
}

// What the text of the package says about the CookieStore: an earlier cookie of the same session is good until its end.
func TestAnEarlierCookieOfACookieStoreStaysGood(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, store session.Store) {
		if !l.inCookie {
			return
		}
		b := newBrowser(t)
		b.get(l.old, "/login")
		earlier := b.thief()
		b.get(l.old, "/login")
		h := l.build(store)
		b.want(h, "/me", "ann")
		b.get(h, "/logout")
		earlier.want(h, "/me", "ann")
	})
}

// A rollback: the old build finds its cookie, if the names differ, and the new build finds its own when it comes back. With one
// name the visitor is logged out by the old build, as the text of the package says.
func TestRollback(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, store session.Store) {
		b := newBrowser(t)
		b.get(l.old, "/login")
		b.get(l.build(store), "/count")
		if l.sameName() {
			b.want(l.old, "/me", "")
			return
		}
		b.want(l.old, "/me", "ann")
		b.want(l.build(store), "/count", "2")
		b.want(l.build(store), "/me", "ann")
	})
}

// What the old library had as a time is read as a time.
func TestImportedValuesKeepTheirTypes(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, store session.Store) {
		b := newBrowser(t)
		b.get(l.old, "/login")
		b.want(l.build(store), "/since", since.String())
	})
}
