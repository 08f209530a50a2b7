package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// An oldLibrary keeps sessions by the cookie "old", and never learns of ours.
type oldLibrary struct {
	mu       sync.Mutex
	sessions map[string]map[string]any
	calls    atomic.Int64
}

func newOldLibrary() *oldLibrary {
	return &oldLibrary{sessions: map[string]map[string]any{"ann": {"user": "ann", "count": 41}}}
}

func (o *oldLibrary) read(r *http.Request) (map[string]any, bool) {
	o.calls.Add(1)
	c, err := r.Cookie("old")
	if err != nil {
		return nil, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	values, ok := o.sessions[c.Value]
	return values, ok
}

// importSite is a site that imports, and a browser with a session of the old library.
func importSite(t testing.TB, opts session.Options) (*site, *oldLibrary, *spy, *browser) {
	old, store := newOldLibrary(), newSpy(t)
	opts.Import = old.read
	return newSite(store, opts), old, store, oldBrowser(t)
}

func oldBrowser(t testing.TB) *browser {
	b := newBrowser(t)
	b.jar["old"] = &http.Cookie{Name: "old", Value: "ann"}
	b.jar["other"] = &http.Cookie{Name: "other", Value: "x"}
	return b
}

// Whatever the first use of the session is, a visitor of the old library has the values of the old session, in the first request
// and in all later ones, and Import is asked once. A request that needs no session asks nobody.
func TestAnOldSessionGoesOn(t *testing.T) {
	for _, first := range []string{"/get?k=user", "/count", "/put?k=k&v=v", "/renew", "/delete?k=none"} {
		t.Run(first, func(t *testing.T) {
			s, old, store, b := importSite(t, session.Options{})
			b.want(s, "/plain", "plain")
			if old.calls.Load() != 0 || store.calls.Load() != 0 || b.jar["session"] != nil {
				t.Fatalf("%d calls of Import, %d of the store", old.calls.Load(), store.calls.Load())
			}
			b.do(s, httptest.NewRequest("GET", first, nil))
			b.want(s, "/get?k=user", "ann true")
			want := 42
			if first == "/count" {
				want++
			}
			b.want(s, "/count", fmt.Sprint(want))
			b.want(s, "/renew", "")
			b.want(s, "/count", fmt.Sprint(want+1))
			if n := old.calls.Load(); n != 1 {
				t.Errorf("%d calls of Import", n)
			}
			if st := s.sm.Status(); st.Imported != 1 || st.Created != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A visitor whom only the router knows, by the cohort, has the old session too: from this request, from an earlier one, from one
// that the header of another request was too late for, and from a build that imports nothing. The cohort stays.
func TestAVisitorOfTheRouterHasTheOldSession(t *testing.T) {
	for _, imports := range []bool{true, false} {
		for _, wait := range []time.Duration{0, time.Minute, 2 * time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				s, old, store, b := importSite(t, session.Options{Keys: ring(t, "a")})
				first := s
				if !imports {
					first = newSite(store, session.Options{Keys: ring(t, "a")})
				}
				b.do(first, httptest.NewRequest("GET", "/cohort", nil))
				cohort := b.jar["session"].Value[:22]
				time.Sleep(wait)
				b.want(s, "/get?k=user", "ann true")
				b.want(s, "/count", "42")
				b.want(s, "/cohort", cohort)
				if n := old.calls.Load(); n != 1 {
					t.Errorf("%d calls of Import", n)
				}
			})
		}
	}
	s, _, _, b := importSite(t, session.Options{})
	s.handle("/both", func(r *http.Request) (string, error) {
		s.sm.Cohort(r)
		return count(r.Context())
	})
	b.want(s, "/both", "42")
	b.want(s, "/both", "43")
}

// After a logout nothing comes back, as long as the visitor has the cookie of the logout: not with the old session still there,
// and not in the same request. A logout that is the first use of the session ends it as well.
func TestALogoutEndsTheImport(t *testing.T) {
	for _, first := range []string{"/logout", "/get?k=user", "/cohort"} {
		synctest.Test(t, func(t *testing.T) {
			s, _, _, b := importSite(t, session.Options{})
			s.handle("/bye", func(r *http.Request) (string, error) {
				return "", errors.Join(session.Destroy(r.Context()), session.Put(r.Context(), "flash", "bye"))
			})
			b.do(s, httptest.NewRequest("GET", first, nil))
			b.want(s, "/bye", "")
			for range 20 {
				b.want(s, "/get?k=user", " false")
				b.want(s, "/get?k=flash", map[bool]string{true: "bye true", false: " false"}[time.Since(bubbleStart) < 24*time.Hour])
				time.Sleep(25 * time.Hour)
			}
			b.want(s, "/count", "1")
		})
	}
}

// bubbleStart is when the time of a bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// An imported session ends as every session does, and does not come back from the old library.
func TestAnImportedSessionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _, b := importSite(t, session.Options{})
		b.want(s, "/count", "42")
		time.Sleep(25 * time.Hour)
		b.want(s, "/get?k=user", " false")
		b.want(s, "/count", "1")
	})
}

// Requests of one browser that come at the same time, to two processes, meet in one session: no count is lost.
func TestOldSessionsMeet(t *testing.T) {
	for round := range 20 {
		old, dir := newOldLibrary(), t.TempDir()
		var sites []*site
		for range 2 {
			sites = append(sites, newSite(session.Dir(dir), session.Options{Import: old.read}))
		}
		var all sync.WaitGroup
		browsers := make([]*browser, 6)
		for n := range browsers {
			browsers[n] = oldBrowser(t)
			all.Go(func() {
				path := "/count"
				if n%3 == 0 {
					path = "/get?k=user"
				}
				browsers[n].do(sites[n%2], httptest.NewRequest("GET", path, nil))
			})
		}
		all.Wait()
		for n, b := range browsers {
			b.want(sites[n%2], "/count", fmt.Sprint(41+4+n+1))
		}
		if a, b := sites[0].sm.Status().Imported, sites[1].sm.Status().Imported; a+b != 1 {
			t.Fatalf("round %d: %d sessions were made", round, a+b)
		}
	}
}

// Nobody but the browser with the same cookies comes to its session: neither with another secret, nor with other cookies.
func TestAnImportedIdIsNobodyElses(t *testing.T) {
	store := session.Dir(t.TempDir())
	values := func(*http.Request) (map[string]any, bool) { return map[string]any{"count": 0}, true }
	a := newSite(store, session.Options{Import: values, Keys: ring(t, "a")})
	b := newSite(store, session.Options{Import: values, Keys: ring(t, "b")})
	one, two, three := oldBrowser(t), oldBrowser(t), oldBrowser(t)
	three.jar["other"].Value = "y"
	one.want(a, "/count", "1")
	two.want(b, "/count", "1")
	three.want(a, "/count", "1")
}

// After the header the old values are readable in the request, and nothing is stored; the next request imports them.
func TestALateImportIsReadOnly(t *testing.T) {
	for _, cohort := range []bool{false, true} {
		s, old, store, b := importSite(t, session.Options{})
		s.mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
			if cohort {
				s.sm.Cohort(r)
			}
			w.WriteHeader(http.StatusOK)
			before := store.calls.Load()
			for range 2 {
				if user, ok, err := session.Get[string](r.Context(), "user"); user != "ann" || !ok || err != nil {
					t.Errorf("%q %v %v", user, ok, err)
				}
			}
			if n := store.calls.Load() - before; n != 0 {
				t.Errorf("%d calls of the store", n)
			}
			if err := session.Destroy(r.Context()); !errors.Is(err, session.ErrHeaderSent) {
				t.Errorf("Destroy = %v", err)
			}
			if !cohort { // with the cookie of the cohort there is a place to write to
				for name, call := range calls {
					if err := call(r.Context()); name != "Get" && !errors.Is(err, session.ErrHeaderSent) {
						t.Errorf("%s = %v", name, err)
					}
				}
			} else if err := session.Put(r.Context(), "k", "v"); err != nil {
				t.Error(err)
			}
		})
		b.do(s, httptest.NewRequest("GET", "/late", nil))
		b.want(s, "/get?k=user", "ann true")
		if cohort {
			b.want(s, "/get?k=k", "v true")
		}
		if n, want := old.calls.Load(), map[bool]int64{false: 2, true: 1}[cohort]; n != want {
			t.Errorf("%d calls of Import, want %d", n, want)
		}
	}
}

// A request that another site has made a browser send reads the old values and gets no cookie; a write makes the session.
func TestAnImportForAnotherSiteMakesNobodyKnown(t *testing.T) {
	s, _, store, b := importSite(t, session.Options{})
	post := func(path string) *http.Response {
		r := httptest.NewRequest("POST", path, nil)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		return b.do(s, r)
	}
	res := post("/get?k=user")
	body := make([]byte, 8)
	res.Body.Read(body)
	if string(body) != "ann true" || setsCookie(res) || store.calls.Load() != 0 {
		t.Errorf("%q, header %v, %d calls of the store", body, res.Header, store.calls.Load())
	}
	if res := post("/count"); !setsCookie(res) {
		t.Errorf("header %v", res.Header)
	}
	b.want(s, "/count", "43")
}

// Values that are too large, or cannot be encoded, are an error for whoever uses the session, and nothing is made or lost.
func TestAnImportThatDoesNotFit(t *testing.T) {
	for name, bad := range map[string]any{"large": strings.Repeat("x", 200), "channel": make(chan int)} {
		t.Run(name, func(t *testing.T) {
			s, old, store, b := importSite(t, session.Options{MaxSize: 100})
			old.sessions["ann"]["bad"] = bad
			for fn, call := range calls {
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("Cookie", b.line())
				within(s, &visitor{t: t, raw: r}, func(ctx context.Context) {
					for range 2 {
						if err := call(ctx); err == nil || name == "large" != errors.Is(err, session.ErrTooLarge) {
							t.Errorf("%s = %v", fn, err)
						}
					}
				})
			}
			if store.calls.Load() != 0 {
				t.Error("the store was asked")
			}
			delete(old.sessions["ann"], "bad")
			b.want(s, "/count", "42")
		})
	}
}

// A panic of Import is that of the handler, and leaves no lock behind: the same request can go on, and so can others.
func TestAnImportThatPanicsLeavesNoLock(t *testing.T) {
	bad := true
	s := newSite(session.Dir(t.TempDir()), session.Options{Import: func(*http.Request) (map[string]any, bool) {
		if bad {
			panic("a bug")
		}
		return map[string]any{"user": "ann"}, true
	}})
	s.handle("/panics", func(r *http.Request) (string, error) {
		func() {
			defer func() {
				if p := recover(); p != "a bug" {
					t.Errorf("recovered %v", p)
				}
			}()
			session.Get[string](r.Context(), "user")
		}()
		_, ok, err := session.Get[string](r.Context(), "user")
		return fmt.Sprint(ok), err
	})
	b := oldBrowser(t)
	b.want(s, "/panics", "false")
	bad = false
	b.want(s, "/get?k=user", "ann true")
}

// While the store does not work, a use of the session fails and the visitor keeps what there is: the next request imports it.
func TestAnImportWithoutTheStoreLosesNothing(t *testing.T) {
	s, _, store, b := importSite(t, session.Options{})
	s.sm.Ready(t.Context())
	store.on(func(op, _ string) error { return errors.New("dead") })
	for _, path := range []string{"/get?k=user", "/count", "/renew", "/logout"} {
		if res := b.do(s, httptest.NewRequest("GET", path, nil)); res.StatusCode != http.StatusInternalServerError || setsCookie(res) {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	store.on(nil)
	b.want(s, "/count", "42")
}

// A visitor without an old session is a new visitor.
func TestNothingToImportIsANewVisitor(t *testing.T) {
	s, _, store, b := importSite(t, session.Options{})
	b.jar["old"].Value = "nobody"
	b.want(s, "/get?k=user", " false")
	b.want(s, "/logout", "")
	if store.calls.Load() != 0 || b.jar["session"] != nil {
		t.Errorf("%d calls of the store", store.calls.Load())
	}
	b.want(s, "/count", "1")
	b.want(s, "/count", "2")
}
