package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// A spy is a store that counts what is asked of it, and calls before each operation what the test wants.
type spy struct {
	session.Store
	calls  atomic.Int64
	mu     sync.Mutex
	before func(op, id string) error
}

func newSpy(t testing.TB) *spy {
	return &spy{Store: session.Dir(t.TempDir())}
}

// Secret is not counted: the key of the cookies is there whatever becomes of the store.
func (s *spy) Secret(ctx context.Context) ([]byte, error) {
	return s.Store.(interface {
		Secret(context.Context) ([]byte, error)
	}).Secret(ctx)
}

// on makes fn run before each operation. An error of it is the operation's.
func (s *spy) on(fn func(op, id string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = fn
}

func (s *spy) note(op, id string) error {
	s.calls.Add(1)
	s.mu.Lock()
	fn := s.before
	s.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(op, id)
}

func (s *spy) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	if err := s.note("create", id); err != nil {
		return 0, err
	}
	return s.Store.Create(ctx, id, data, expires)
}

func (s *spy) Load(ctx context.Context, id string) (session.Record, error) {
	if err := s.note("load", id); err != nil {
		return session.Record{}, err
	}
	return s.Store.Load(ctx, id)
}

func (s *spy) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	if err := s.note("swap", id); err != nil {
		return 0, err
	}
	return s.Store.Swap(ctx, id, rev, data, expires)
}

func (s *spy) Touch(ctx context.Context, id string, expires time.Time) error {
	if err := s.note("touch", id); err != nil {
		return err
	}
	return s.Store.Touch(ctx, id, expires)
}

func (s *spy) Delete(ctx context.Context, id string) error {
	if err := s.note("delete", id); err != nil {
		return err
	}
	return s.Store.Delete(ctx, id)
}

// A visitor is a browser without a network: it keeps its cookies and asks a handler.
type visitor struct {
	t  testing.TB
	h  http.Handler
	mu sync.Mutex
	// cookie is the value of the session cookie, "" if it has none.
	cookie string
	raw    *http.Request // what request returns, if a test made it
}

func newVisitor(t testing.TB, h http.Handler) *visitor { return &visitor{t: t, h: h} }

// with is another browser with the same cookie.
func (v *visitor) with(h http.Handler) *visitor {
	return &visitor{t: v.t, h: h, cookie: v.value()}
}

func (v *visitor) value() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cookie
}

// do asks for a path and takes the cookie that the answer sets.
func (v *visitor) do(path string) *http.Response {
	r := v.request(path)
	w := httptest.NewRecorder()
	v.h.ServeHTTP(w, r)
	res := w.Result()
	for _, c := range res.Cookies() {
		v.mu.Lock()
		v.cookie = c.Value
		v.mu.Unlock()
	}
	return res
}

// request is the request for a path, with the cookie.
func (v *visitor) request(path string) *http.Request {
	if v.raw != nil {
		return v.raw
	}
	r := httptest.NewRequest("GET", path, nil)
	if c := v.value(); c != "" {
		r.Header.Set("Cookie", "session="+c)
	}
	return r
}

// get returns the body of an answer that must be good.
func (v *visitor) get(path string) string {
	v.t.Helper()
	res := v.do(path)
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		v.t.Fatalf("GET %s: %s, %s, %v", path, res.Status, body, err)
	}
	return string(body)
}

// want checks the body of an answer.
func (v *visitor) want(path, body string) {
	v.t.Helper()
	if got := v.get(path); got != body {
		v.t.Fatalf("GET %s = %q, want %q", path, got, body)
	}
}

// wantStatus checks the status of an answer.
func (v *visitor) wantStatus(path string, status int) {
	v.t.Helper()
	if res := v.do(path); res.StatusCode != status {
		body, _ := io.ReadAll(res.Body)
		v.t.Fatalf("GET %s: %s, %s, want %d", path, res.Status, body, status)
	}
}

// A site is a service that uses everything.
type site struct {
	sm  *session.Manager
	mux *http.ServeMux
	http.Handler
}

// dirSite is a site with the default options and a new directory.
func dirSite(t testing.TB) *site {
	t.Helper()
	return newSite(session.Dir(t.TempDir()), session.Options{})
}

// onFakeTime runs a test of a dirSite and a visitor in a bubble, where a month takes no time.
func onFakeTime(t *testing.T, test func(t *testing.T, s *site, v *visitor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := dirSite(t)
		test(t, s, newVisitor(t, s))
	})
}

func newSite(store session.Store, opts session.Options) *site {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &site{sm: session.NewManager(store, opts), mux: http.NewServeMux()}
	s.Handler = s.sm.Middleware(s.mux)
	s.handle("/plain", func(*http.Request) (string, error) { return "plain", nil })
	s.handle("/cohort", func(r *http.Request) (string, error) { return s.sm.Cohort(r), nil })
	s.handle("/count", func(r *http.Request) (string, error) { return count(r.Context()) })
	s.handle("/put", func(r *http.Request) (string, error) {
		return "", session.Put(r.Context(), r.FormValue("k"), r.FormValue("v"))
	})
	s.handle("/get", func(r *http.Request) (string, error) {
		text, ok, err := session.Get[string](r.Context(), r.FormValue("k"))
		return fmt.Sprintf("%s %v", text, ok), err
	})
	s.handle("/delete", func(r *http.Request) (string, error) {
		return "", session.Delete(r.Context(), r.FormValue("k"))
	})
	s.handle("/renew", func(r *http.Request) (string, error) { return "", session.Renew(r.Context()) })
	s.handle("/login", func(r *http.Request) (string, error) {
		if err := session.Renew(r.Context()); err != nil {
			return "", err
		}
		return "", session.Put(r.Context(), "user", "ann")
	})
	s.handle("/logout", func(r *http.Request) (string, error) { return "", session.Destroy(r.Context()) })
	return s
}

// count adds one to the visitor's counter.
func count(ctx context.Context) (string, error) {
	var n int
	err := session.Update(ctx, func(v *session.Values) error {
		n = 0
		if _, err := v.Get("count", &n); err != nil {
			return err
		}
		n++
		return v.Put("count", n)
	})
	return strconv.Itoa(n), err
}

// handle answers with what fn returns: 409 if the session was gone, 500 for another error.
func (s *site) handle(path string, fn func(r *http.Request) (string, error)) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		text, err := fn(r)
		switch {
		case errors.Is(err, session.ErrGone):
			http.Error(w, err.Error(), http.StatusConflict)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			io.WriteString(w, text)
		}
	})
}

// A gate holds a request at a point until the test lets it go on.
type gate struct {
	reached chan struct{}
	open    chan struct{}
}

func newGate() gate { return gate{reached: make(chan struct{}), open: make(chan struct{})} }

func (g gate) pass() {
	close(g.reached)
	<-g.open
}

// background asks for a path while the test goes on. The returned function waits for the answer's status.
func (v *visitor) background(path string) (wait func() *http.Response) {
	answered := make(chan *http.Response, 1)
	go func() { answered <- v.do(path) }()
	return func() *http.Response { return <-answered }
}

func setsCookie(res *http.Response) bool {
	return strings.HasPrefix(res.Header.Get("Set-Cookie"), "session=")
}
