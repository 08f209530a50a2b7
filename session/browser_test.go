package session_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// A browser keeps cookies by name and for as long as they say, as real ones do. The time may be that of a bubble.
type browser struct {
	t   testing.TB
	jar map[string]*http.Cookie
	end map[string]time.Time // of cookies with Max-Age
}

func newBrowser(t testing.TB) *browser {
	return &browser{t: t, jar: map[string]*http.Cookie{}, end: map[string]time.Time{}}
}

// line is the Cookie line of the next request.
func (b *browser) line() string {
	var parts []string
	for name, c := range b.jar {
		if end, ok := b.end[name]; ok && !time.Now().Before(end) {
			delete(b.jar, name)
			continue
		}
		parts = append(parts, name+"="+c.Value)
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

func (b *browser) do(h http.Handler, r *http.Request) *http.Response {
	b.t.Helper()
	if line := b.line(); line != "" {
		r.Header.Set("Cookie", line)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := w.Result()
	for _, c := range res.Cookies() {
		b.jar[c.Name] = c
		delete(b.end, c.Name)
		if c.MaxAge > 0 {
			b.end[c.Name] = time.Now().Add(time.Duration(c.MaxAge) * time.Second)
		}
	}
	return res
}

// want asks for a path and checks the body.
func (b *browser) want(h http.Handler, path, body string) {
	b.t.Helper()
	res := b.do(h, httptest.NewRequest("GET", path, nil))
	if got, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || string(got) != body {
		b.t.Fatalf("GET %s: %s, %q, want %q", path, res.Status, got, body)
	}
}

// close ends the browser, which drops the cookies without Max-Age.
func (b *browser) close() {
	for name := range b.jar {
		if _, ok := b.end[name]; !ok {
			delete(b.jar, name)
		}
	}
}

// A plainStore has the methods of a Store and no others.
type plainStore struct{ session.Store }

// A hungStore waits in each call until its context ends, or until the test opens it. It has an error of its own for that.
type hungStore struct {
	session.Store
	hung chan struct{}
}

var errInterrupted = errors.New("driver: interrupted")

func newHungStore(store session.Store) *hungStore {
	return &hungStore{Store: store, hung: make(chan struct{})}
}

func (h *hungStore) wait(ctx context.Context) error {
	select {
	case <-h.hung:
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}

func (h *hungStore) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	if err := h.wait(ctx); err != nil {
		return 0, err
	}
	return h.Store.Create(ctx, id, data, expires)
}

func (h *hungStore) Load(ctx context.Context, id string) (session.Record, error) {
	if err := h.wait(ctx); err != nil {
		return session.Record{}, err
	}
	return h.Store.Load(ctx, id)
}

func (h *hungStore) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	if err := h.wait(ctx); err != nil {
		return 0, err
	}
	return h.Store.Swap(ctx, id, rev, data, expires)
}

func (h *hungStore) Touch(ctx context.Context, id string, expires time.Time) error {
	if err := h.wait(ctx); err != nil {
		return err
	}
	return h.Store.Touch(ctx, id, expires)
}

func (h *hungStore) Delete(ctx context.Context, id string) error {
	if err := h.wait(ctx); err != nil {
		return err
	}
	return h.Store.Delete(ctx, id)
}
