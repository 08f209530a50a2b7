package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/request"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// A rescuer answers a request by a first handler, takes back what that one has done to the session, and lets a second one
// answer, as canary.Router does.
type rescuer struct {
	sm            *session.Manager
	first, second http.Handler
	undone        func(r *http.Request) // called between the two
}

func (h rescuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	slot, wr := request.Shared(w, r)
	mark, undo := slot.Mark(), h.sm.Attempt(r)
	h.first.ServeHTTP(httptest.NewRecorder(), r)
	undo()
	undo() // again is nothing
	if h.undone != nil {
		h.undone(r)
	}
	_, again := slot.Again(mark, r, wr)
	h.second.ServeHTTP(w, again)
}

// rescue is a site whose requests are answered twice: the first time by the paths in the header First.
func rescue(s *site, between func(r *http.Request)) *site {
	first := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, path := range strings.Fields(r.Header.Get("First")) {
			one := r.Clone(r.Context())
			one.URL.Path, one.URL.RawQuery, _ = strings.Cut(path, "?")
			s.mux.ServeHTTP(httptest.NewRecorder(), one)
		}
	})
	return &site{sm: s.sm, mux: s.mux, Handler: s.sm.Middleware(rescuer{s.sm, first, s.mux, between})}
}

// twice sends a request that is answered twice.
func (v *visitor) twice(first, second string) (*http.Response, string) {
	v.t.Helper()
	r := httptest.NewRequest("GET", second, nil)
	r.Header.Set("First", first)
	if v.cookie != "" {
		r.Header.Set("Cookie", "session="+v.cookie)
	}
	w := httptest.NewRecorder()
	v.h.ServeHTTP(w, r)
	res := w.Result()
	for _, c := range res.Cookies() {
		v.cookie = c.Value
	}
	return res, w.Body.String()
}

// steps are what an attempt may do before it fails.
var steps = []string{
	"/put?k=k&v=first", "/delete?k=k", "/count", "/renew", "/logout", "/in?user=bob", "/in?user=ann", "/cohort", "/get?k=k",
	"/renew /put?k=k&v=first", "/put?k=k&v=first /logout", "/logout /put?k=k&v=first", "/renew /renew", "/logout /in?user=bob",
	"/in?user=bob /logout", "/put?k=k&v=first /in?user=ann /count /renew /put?k=new&v=1", "/logout /logout",
}

// What a failed attempt has done leaves no trace: values, user, cookie, list and records are those of a visitor whose request was
// answered once.
func TestAnUndoneAttemptLeavesNoTrace(t *testing.T) {
	for _, first := range steps {
		for _, who := range []string{"new", "cohort", "anonymous", "ann"} {
			t.Run(fmt.Sprint(first, " of ", who), func(t *testing.T) { undone(t, first, who) })
		}
	}
}

func undone(t *testing.T, first, who string) {
	store := newSpy(t)
	s := rescue(userSite(store, session.Options{}), nil)
	created := map[string]bool{}
	store.on(func(op, id string) error {
		created[id] = true
		return nil
	})
	v := newVisitor(t, s)
	switch who {
	case "cohort":
		v.get("/cohort")
	case "anonymous":
		v.get("/put?k=k&v=before")
	case "ann":
		v.get("/put?k=k&v=before")
		v.get("/in?user=ann")
	}
	cookie, value, user := v.value(), v.get("/get?k=k"), v.get("/who")
	before := liveRecords(t, store, created)
	res, body := v.twice(first, "/get?k=k")
	if body != value || v.value() != cookie || setsCookie(res) {
		t.Errorf("%q, want %q; cookie set: %v", body, value, setsCookie(res))
	}
	v.want("/who", user)
	if st := s.sm.Status(); st.NotUndone > 0 {
		t.Errorf("counted: %+v", st)
	}
	if after := liveRecords(t, store, created); after != before {
		t.Errorf("records after the attempt: %d, want %d", after, before)
	}
	v.want("/list?user=bob", "")
	if infos, err := s.sm.List(t.Context(), "ann"); err != nil || (len(infos) == 1) != (user == "ann") {
		t.Errorf("List = %v, %v", infos, err)
	}
	if _, body := v.twice(first, "/count"); body != "1" {
		t.Errorf("the second attempt counts %s", body)
	}
	v.want("/count", "2")
	if _, body := v.twice(first, "/in?user=eve"); body != "" {
		t.Errorf("the second attempt logs in: %q", body)
	}
	v.want("/who", "eve")
	v.want("/count", "3")
	if n, err := s.sm.RevokeAll(t.Context(), "eve"); n != 1 || err != nil {
		t.Errorf("RevokeAll = %d, %v", n, err)
	}
	v.want("/who", "")
}

// liveRecords counts the sessions among ids that have not ended.
func liveRecords(t *testing.T, store session.Store, ids map[string]bool) (n int) {
	t.Helper()
	for id := range ids {
		rec, err := store.Load(t.Context(), id)
		if err != nil || strings.HasPrefix(id, "user ") || strings.Contains(string(rec.Data), `"gone"`) {
			continue
		}
		n++
	}
	return n
}

// Without undo an attempt counts, and undo is not needed.
func TestAnAttemptThatIsNotUndoneCounts(t *testing.T) {
	s := dirSite(t)
	h := s.sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.sm.Attempt(r)
		s.mux.ServeHTTP(w, r)
	}))
	v := newVisitor(t, h)
	v.want("/count", "1")
	v.get("/renew")
	v.want("/count", "2")
	s.sm.Attempt(httptest.NewRequest("GET", "/", nil))() // without a Middleware there is nothing to undo
}

// What another request has written after the attempt is not overwritten: the attempt stays, and the log says so.
func TestAnUndoOverwritesNobody(t *testing.T) {
	for _, first := range []string{"/put?k=k&v=first", "/in?user=ann", "/renew", "/logout", "/count /renew /count"} {
		for _, who := range []string{"anonymous", "ann"} {
			t.Run(first+" of "+who, func(t *testing.T) {
				var log syncBuffer
				dir := t.TempDir()
				s := userSite(session.Dir(dir), session.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				other := userSite(session.Dir(dir), session.Options{})
				v := newVisitor(t, s)
				v.get("/put?k=k&v=before")
				if who == "ann" {
					v.get("/in?user=ann")
				}
				old := v.with(other)
				between := func() {
					old.do("/put?k=other&v=1")
					if who == "ann" {
						other.sm.RevokeAll(t.Context(), "ann")
					}
				}
				v.h = s.sm.Middleware(rescuer{sm: s.sm, first: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					for _, path := range strings.Fields(first) {
						one := r.Clone(r.Context())
						one.URL.Path, one.URL.RawQuery, _ = strings.Cut(path, "?")
						s.mux.ServeHTTP(httptest.NewRecorder(), one)
					}
					between()
				}), second: s.mux})
				v.do("/get?k=k")
				if who == "ann" {
					v.with(other).want("/who", "")
					old.want("/who", "")
					if infos, err := other.sm.List(t.Context(), "ann"); err != nil || len(infos) > 0 {
						t.Errorf("List = %v, %v", infos, err)
					}
				} else if first == "/put?k=k&v=first" {
					v.want("/get?k=other", "1 true")
					v.want("/get?k=k", "first true")
				}
				if first == "/put?k=k&v=first" {
					testutil.Until(t, 10*time.Second, "a line in the log", func() bool {
						return strings.Contains(log.String(), "attempt not undone")
					})
					if st := s.sm.Status(); st.NotUndone != 1 || st.Undone != 0 {
						t.Errorf("counted: %+v", st)
					}
				}
			})
		}
	}
}

// A syncBuffer is a log that two goroutines use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A goroutine that a failed attempt has left behind reaches the store no more, not even with a write that it began before, and
// the second attempt is not disturbed.
func TestAWriteOfAFailedAttemptIsRefused(t *testing.T) {
	for name, write := range map[string]func(sm *session.Manager, r *http.Request) error{
		"put":     func(_ *session.Manager, r *http.Request) error { return session.Put(r.Context(), "k", "late") },
		"renew":   func(_ *session.Manager, r *http.Request) error { return session.Renew(r.Context()) },
		"destroy": func(_ *session.Manager, r *http.Request) error { return session.Destroy(r.Context()) },
		"login":   func(sm *session.Manager, r *http.Request) error { return sm.Login(r.Context(), "eve", false) },
	} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprint(name, known), func(t *testing.T) {
				s := userSite(session.Dir(t.TempDir()), session.Options{})
				var late *http.Request
				begun, go1, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
				v := newVisitor(t, s)
				if known {
					v.get("/put?k=k&v=before")
				}
				first := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					late = r
					go func() {
						over <- session.Update(r.Context(), func(vs *session.Values) error {
							close(begun)
							<-go1
							return vs.Put("k", "late")
						})
					}()
					<-begun
				})
				v.h = s.sm.Middleware(rescuer{s.sm, first, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(go1)
					if err := <-over; !errors.Is(err, session.ErrGone) {
						t.Errorf("the Update = %v", err)
					}
					if err := write(s.sm, late); !errors.Is(err, session.ErrGone) {
						t.Errorf("%s = %v", name, err)
					}
					if err := session.Put(r.Context(), "second", "1"); err != nil {
						t.Errorf("the second attempt: %v", err)
					}
				}), nil})
				v.do("/")
				v.h = s
				v.want("/get?k=second", "1 true")
				v.want("/who", "")
				if known {
					v.want("/get?k=k", "before true")
				} else {
					v.want("/get?k=k", " false")
				}
			})
		}
	}
}

// Undo waits for a write that has reached the store, and takes the write back.
func TestAnUndoWaitsForAWriteUnderWay(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	v := newVisitor(t, s)
	v.get("/put?k=k&v=before")
	g, over := newGate(), make(chan error, 1)
	first := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		store.on(func(op, _ string) error {
			if op == "swap" {
				store.on(nil)
				g.pass()
			}
			return nil
		})
		go func() { over <- session.Put(r.Context(), "k", "late") }()
		<-g.reached
		time.AfterFunc(50*time.Millisecond, func() { close(g.open) })
	})
	v.h = s.sm.Middleware(rescuer{s.sm, first, s.mux, func(*http.Request) {
		select {
		case err := <-over:
			if err != nil {
				t.Errorf("Put = %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("undo has not waited")
		}
	}})
	v.want("/get?k=k", "before true")
	v.h = s
	v.want("/get?k=k", "before true")
}

// A store that fails during the attempt or its undo, at whichever step, leaves the visitor what was there before or what the
// attempt has made, never nothing, and nothing that cannot be revoked.
func TestAnUndoThatFailsLosesNothing(t *testing.T) {
	for _, first := range []string{"/put?k=k&v=first", "/renew", "/in?user=ann", "/logout", "/in?user=bob /put?k=k&v=first"} {
		for step := 1; ; step++ {
			reached := false
			for i := range ways() {
				reached = undoDies(t, first, death{step, i%2 == 0, i/2 == 0}) || reached
			}
			if !reached {
				t.Logf("%s: %d steps", first, step-1)
				break
			}
		}
	}
}

func undoDies(t *testing.T, first string, d death) bool {
	dir := t.TempDir()
	keys, err := session.NewKeyRing(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	good := userSite(session.Dir(dir), session.Options{Keys: keys})
	v := good.login(t, "ann", "phone")
	v.get("/put?k=k&v=before")
	store := &mortal{Store: session.Dir(dir), last: d.step, after: d.after, dies: d.dies, ids: map[string]bool{}}
	dying := v.with(rescue(userSite(store, session.Options{Keys: keys, Logger: slog.New(slog.DiscardHandler)}), nil))
	dying.twice(first, "/plain")
	if store.calls < d.step {
		return false
	}
	after := userSite(session.Dir(dir), session.Options{Keys: keys})
	now := dying.with(after)
	user, value := now.get("/who"), now.get("/get?k=k")
	lost := user == "" && value == " false"
	if lost && !strings.Contains(first, "/logout") && !d.dies {
		t.Errorf("%s, %v: the session is lost", first, d)
	}
	wantListed(t, fmt.Sprint(first, d), store)
	for _, user := range []string{"ann", "bob"} {
		if _, err := after.sm.RevokeAll(t.Context(), user); err != nil {
			t.Error(err)
		}
	}
	wantNoUser(t, fmt.Sprint(first, d), store)
	return true
}

// What another request has written between two writes of the attempt stays, and so does the attempt.
func TestAnUndoKeepsWhatOthersWroteInBetween(t *testing.T) {
	a, b := twoSites(t)
	v := newVisitor(t, a)
	v.get("/put?k=k&v=before")
	other := v.with(b)
	first := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for _, value := range []string{"first", "second"} {
			if err := session.Put(r.Context(), "k", value); err != nil {
				t.Error(err)
			}
			if value == "first" {
				other.get("/put?k=other&v=1")
			}
		}
	})
	v.h = a.sm.Middleware(rescuer{sm: a.sm, first: first, second: a.mux})
	v.want("/get?k=k", "second true")
	other.want("/get?k=other", "1 true")
	other.want("/get?k=k", "second true")
}
