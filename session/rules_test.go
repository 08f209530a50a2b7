package session_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/midair-go/midair/session"
)

// uses are what a handler may do with its session, and whether the answer then has a cookie: for a visitor without one, and for
// a visitor who has one.
var uses = map[string]struct {
	use                func(sm *session.Manager, r *http.Request) error
	forNew, forVisitor bool
}{
	"nothing": {use: func(*session.Manager, *http.Request) error { return nil }},
	"read": {use: func(_ *session.Manager, r *http.Request) error {
		_, _, err := session.Get[string](r.Context(), "k")
		return err
	}},
	"write":     {use: func(_ *session.Manager, r *http.Request) error { return session.Put(r.Context(), "k", 1) }, forNew: true},
	"no change": {use: func(_ *session.Manager, r *http.Request) error { return session.Delete(r.Context(), "none") }},
	"failed":    {use: func(_ *session.Manager, r *http.Request) error { return failedWrite(r) }},
	"renew":     {use: func(_ *session.Manager, r *http.Request) error { return session.Renew(r.Context()) }, forNew: true, forVisitor: true},
	"destroy":   {use: func(_ *session.Manager, r *http.Request) error { return session.Destroy(r.Context()) }, forVisitor: true},
	"cohort":    {use: func(sm *session.Manager, r *http.Request) error { sm.Cohort(r); return nil }, forNew: true},
	"failed, put": {use: func(_ *session.Manager, r *http.Request) error {
		return errors.Join(failedWrite(r), session.Put(r.Context(), "k", 1))
	}, forNew: true},
}

func failedWrite(r *http.Request) error {
	mine := errors.New("mine")
	err := session.Update(r.Context(), func(v *session.Values) error {
		v.Put("k", 2)
		return mine
	})
	if err != mine {
		return fmt.Errorf("Update = %w", err)
	}
	return nil
}

// sites are where a request comes from, and whether that is another site.
var sites = map[string]struct {
	method, header, value string
	other                 bool
}{
	"GET":                     {method: "GET"},
	"POST":                    {method: "POST"},
	"POST of the same origin": {"POST", "Sec-Fetch-Site", "same-origin", false},
	"POST of the same host":   {"POST", "Origin", "http://example.com", false},
	"link":                    {"GET", "Sec-Fetch-Site", "cross-site", false},
	"POST of another site":    {"POST", "Sec-Fetch-Site", "cross-site", true},
	"POST of a sibling":       {"POST", "Sec-Fetch-Site", "same-site", true},
	"POST of another host":    {"POST", "Origin", "https://other.example", true},
	"POST of nobody":          {"POST", "Origin", "null", true},
}

// An answer has a cookie only if the request made one necessary, and then shared caches do not store it. It depends on the
// cookie of the request only if the session was used. A cohort is given to nobody whose request another site has made.
func TestTheCookieComesOnlyWhereItIsNeeded(t *testing.T) {
	s := dirSite(t)
	for from, site := range sites {
		for name, use := range uses {
			t.Run(name+" "+from, func(t *testing.T) {
				h := s.sm.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if err := use.use(s.sm, r); err != nil {
						t.Error(err)
					}
				}))
				for _, known := range []bool{false, true} {
					r := httptest.NewRequest(site.method, "/", nil)
					if site.header != "" {
						r.Header.Set(site.header, site.value)
					}
					want := use.forNew && (name != "cohort" || !site.other)
					if known {
						v := newVisitor(t, s)
						v.get("/put?k=k&v=0")
						r.Header.Set("Cookie", "session="+v.value())
						want = use.forVisitor
					}
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					res := w.Result()
					if setsCookie(res) != want || (res.Header.Get("Cache-Control") == "private") != want {
						t.Errorf("known %v: header %v, want a cookie: %v", known, res.Header, want)
					}
					if got, want := res.Header.Get("Vary") == "Cookie", name != "nothing"; got != want {
						t.Errorf("known %v: Vary: %q", known, res.Header["Vary"])
					}
				}
			})
		}
	}
}

// A request of another site without a cookie has no cohort, unless its own write has made the visitor known.
func TestARequestOfAnotherSiteHasNoCohort(t *testing.T) {
	s := dirSite(t)
	ask := func(r *http.Request) (before, after string) {
		s.sm.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			before = s.sm.Cohort(r)
			if err := session.Put(r.Context(), "k", 1); err != nil {
				t.Error(err)
			}
			after = s.sm.Cohort(r)
		})).ServeHTTP(httptest.NewRecorder(), r)
		return before, after
	}
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if before, after := ask(r); before != "" || after == "" {
		t.Errorf("cohort %q before the write and %q after it", before, after)
	}
	v := newVisitor(t, s)
	cohort := v.get("/cohort")
	r.Header.Set("Cookie", "session="+v.value())
	if before, after := ask(r); before != cohort || after != cohort {
		t.Errorf("cohort %q and %q of the visitor %q", before, after, cohort)
	}
}

// What the handler says about caches stays beside what the cookie needs, in one line.
func TestPresentHeaderLinesStay(t *testing.T) {
	s := dirSite(t)
	h := s.sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Vary"] = []string{"Accept-Encoding", "Origin"}
		w.Header()["Cache-Control"] = []string{"max-age=60", "no-transform"}
		w.Header().Add("Set-Cookie", "mine=1")
		if r.URL.Path == "/use" {
			s.sm.Cohort(r)
		}
	}))
	for path, want := range map[string][3]int{"/use": {1, 1, 2}, "/": {2, 2, 1}} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		got := w.Header()
		if [3]int{len(got["Vary"]), len(got["Cache-Control"]), len(got["Set-Cookie"])} != want {
			t.Errorf("%s: %v", path, got)
		}
		if path == "/use" && (got.Get("Vary") != "Accept-Encoding, Origin, Cookie" || got.Get("Cache-Control") != "max-age=60, no-transform, private") {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// While the first write of a visitor is under way, another goroutine sends the header. The visitor gets the cookie, and finds
// what was written; if the write fails, the cookie is good for the next one.
func TestTheHeaderDuringAFirstWriteHasTheCookie(t *testing.T) {
	for _, failure := range []error{nil, errors.New("store is down")} {
		t.Run(fmt.Sprint(failure), func(t *testing.T) {
			store := newSpy(t)
			s := newSite(store, session.Options{})
			s.mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
				g := newGate()
				store.on(func(op, _ string) error {
					if op == "create" {
						store.on(nil)
						g.pass()
						return failure
					}
					return nil
				})
				var write sync.WaitGroup
				write.Go(func() {
					if err := session.Put(r.Context(), "k", "v"); !errors.Is(err, failure) {
						t.Errorf("Put = %v", err)
					}
				})
				<-g.reached
				w.WriteHeader(http.StatusOK)
				close(g.open)
				write.Wait()
			})
			v := newVisitor(t, s)
			if res := v.do("/slow"); !setsCookie(res) {
				t.Fatalf("header %v", res.Header)
			}
			first := v.value()
			if failure == nil {
				v.want("/get?k=k", "v true")
			}
			v.want("/count", "1")
			if v.value() != first {
				t.Error("the visitor got a second cookie")
			}
		})
	}
}

// After the header a visitor without a cookie cannot begin a session: nothing is stored that nobody could find.
func TestNoSessionBeginsAfterTheHeader(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	store.on(func(op, _ string) error {
		t.Errorf("store: %s", op)
		return nil
	})
	s.mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		for name, err := range map[string]error{
			"Put": session.Put(r.Context(), "k", 1), "Renew": session.Renew(r.Context()),
		} {
			if !errors.Is(err, session.ErrHeaderSent) {
				t.Errorf("%s = %v", name, err)
			}
		}
		if err := session.Destroy(r.Context()); err != nil {
			t.Errorf("Destroy = %v", err)
		}
		if cohort := s.sm.Cohort(r); cohort != "" {
			t.Errorf("cohort %q", cohort)
		}
	})
	if res := newVisitor(t, s).do("/late"); setsCookie(res) {
		t.Errorf("header %v", res.Header)
	}
}

// If a handler panics after a change of its session, the answer of a handler further out has the cookie that counts.
func TestACookieOutlivesAPanic(t *testing.T) {
	for name, panicked := range map[string]any{"a bug": "a bug", "abort": http.ErrAbortHandler} {
		for _, path := range []string{"/renew", "/logout", "/count"} {
			for _, answers := range []bool{true, false} {
				t.Run(fmt.Sprint(path, " ", name, ", answers ", answers), func(t *testing.T) {
					panicsAfter(t, path, panicked, answers)
				})
			}
		}
	}
}

func panicsAfter(t *testing.T, path string, panicked any, answers bool) {
	s := dirSite(t)
	s.Handler = recovers(s.sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mux.ServeHTTP(httptest.NewRecorder(), r) // what it writes is not the answer
		if r.Header.Get("Panic") != "" {
			panic(panicked)
		}
	})), answers)
	v := newVisitor(t, s.sm.Middleware(s.mux))
	if path != "/count" {
		v.do("/put?k=k&v=v")
	}
	before := v.value()
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Panic", "1")
	if before != "" {
		r.Header.Set("Cookie", "session="+before)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	res := w.Result()
	if !setsCookie(res) || len(res.Cookies()) != 1 || res.Header.Get("Cache-Control") != "private" {
		t.Fatalf("%s: header %v", res.Status, res.Header)
	}
	after := newVisitor(t, s.sm.Middleware(s.mux))
	after.cookie = res.Cookies()[0].Value
	switch path {
	case "/renew":
		after.want("/get?k=k", "v true")
	case "/logout":
		after.want("/get?k=k", " false")
	}
	after.wantStatus("/count", http.StatusOK)
	if after.cookie != res.Cookies()[0].Value {
		t.Error("the visitor got another cookie")
	}
}

// recovers ends a panic of the next handler, with an answer or without.
func recovers(next http.Handler, answers bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil && answers {
				http.Error(w, "sorry", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// A handler further out finds the form of its request also after a panic, so that the server removes the files.
func TestFilesAreRemovedAfterAPanic(t *testing.T) {
	s := dirSite(t)
	upload := s.sm.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		r.Pattern = "/upload"
		panic("a bug")
	}))
	r := httptest.NewRequest("POST", "/upload", nil)
	recovers(upload, false).ServeHTTP(httptest.NewRecorder(), r)
	if r.Pattern != "/upload" {
		t.Errorf("pattern %q", r.Pattern)
	}
}

// Two sessions, one inside of the other, panic as one: each has its cookie in the answer.
func TestNestedCookiesOutliveAPanic(t *testing.T) {
	s := dirSite(t)
	other := session.NewManager(session.Dir(t.TempDir()), session.Options{Cookie: "other"})
	h := recovers(other.Middleware(s.sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		other.Cohort(r)
		s.sm.Cohort(r)
		panic("a bug")
	}))), true)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	var names []string
	for _, c := range w.Result().Cookies() {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	if body, _ := io.ReadAll(w.Body); !slices.Equal(names, []string{"other", "session"}) || string(body) != "sorry\n" {
		t.Errorf("cookies %q, body %q", names, body)
	}
}
