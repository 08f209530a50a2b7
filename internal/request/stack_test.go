package request_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/httpflags"
	"github.com/midair-go/midair/internal/request"
	"github.com/midair-go/midair/session"
)

// A middleware is a function that wraps a handler.
type middleware = func(http.Handler) http.Handler

// A stack has what a service wraps around its handlers.
type stack struct {
	sm     *session.Manager
	cookie string // of a visitor that the manager knows
}

func newStack(t testing.TB) *stack {
	s := &stack{sm: session.NewManager(session.Dir(t.TempDir()), session.Options{})}
	w := httptest.NewRecorder()
	s.sm.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { s.sm.Cohort(r) })).ServeHTTP(w, get())
	s.cookie = "session=" + w.Result().Cookies()[0].Value
	return s
}

// router is a middleware with a router whose sides have the same handler.
func (s *stack) router(opts canary.Options) middleware {
	opts.Weight, opts.Key, opts.SideInContext = canary.Fixed(0.5), s.sm.Cohort, true
	return func(h http.Handler) http.Handler { return canary.NewRouter(h, h, opts) }
}

// flags is a middleware that says for whom flags are evaluated.
func (s *stack) flags(t testing.TB) middleware {
	ff, err := flags.Open(t.TempDir()+"/flags.json", flags.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ff.Close() })
	return httpflags.Middleware(ff, func(r *http.Request) (string, map[string]any) { return s.sm.Cohort(r), nil })
}

// chain wraps the middlewares around a handler, the first one outermost.
func chain(h http.Handler, list ...middleware) http.Handler {
	for i := len(list) - 1; i >= 0; i-- {
		h = list[i](h)
	}
	return h
}

// discard is a writer that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(p []byte) (int, error) { return len(p), nil }

var sixBytes = []byte("hello\n")

// plain is the handler inside of the stack. It reads its side.
func plain(w http.ResponseWriter, r *http.Request) {
	if _, ok := canary.SideFromContext(r.Context()); !ok {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	w.Write(sixBytes)
}

// inside is an observer with the Writer of a middleware further out.
func inside(t testing.TB) middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			observe(t, request.WriterOf(w))
		})
	}
}

// outside is an observer with a Slot and a Writer of its own, in one allocation.
func outside(t testing.TB) middleware {
	type attempt struct {
		slot   request.Slot
		writer request.Writer
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := &attempt{}
			defer a.writer.Finish()
			next.ServeHTTP(a.writer.Wrap(w), a.slot.Init(r, &a.writer))
			observe(t, &a.writer)
		})
	}
}

func observe(t testing.TB, wr *request.Writer) {
	if wr.Status() != http.StatusAccepted || wr.Bytes() != int64(len(sixBytes)) {
		t.Errorf("status %d, %d bytes", wr.Status(), wr.Bytes())
	}
}

// gzips has a writer of its own: one allocation.
func gzips(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(gzipLike{w}, r) })
}

// withValue has a context and a request of its own: two allocations.
func withValue(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), ctxKey{}, w)))
	})
}

// The whole stack costs at most two allocations a request, whatever its order. The numbers are exact; want is what the packages
// cost, and own is what the middlewares of the test itself cost.
func TestTheStackCostsTwoAllocations(t *testing.T) {
	s := newStack(t)
	other := session.NewManager(session.Dir(t.TempDir()), session.Options{Cookie: "other"})
	router, second := s.router(canary.Options{}), s.router(canary.Options{Name: "second"})
	observed := s.router(canary.Options{Observe: func(o canary.Outcome) {
		if o.Status != http.StatusAccepted || o.Bytes < int64(len(sixBytes)) {
			t.Errorf("status %d, %d bytes", o.Status, o.Bytes)
		}
	}})
	for _, test := range []struct {
		name      string
		list      []middleware
		want, own float64
		vary      string // of the answer to a GET
	}{
		// The Slot, the Writer and the visit are one allocation, which the router shares.
		{"session, router", []middleware{s.sm.Middleware, router}, 1, 0, "Cookie"},
		{"session, observer, router", []middleware{s.sm.Middleware, inside(t), router}, 1, 0, "Cookie"},
		{"session, router, observer", []middleware{s.sm.Middleware, router, inside(t)}, 1, 0, "Cookie"},
		// A router that looks at outcomes uses the same Writer.
		{"session, observed router", []middleware{s.sm.Middleware, observed}, 1, 0, "Cookie"},
		{"session, observed router, flags", []middleware{s.sm.Middleware, observed, s.flags(t)}, 2, 0, "Cookie"},
		{"observed router, session", []middleware{observed, s.sm.Middleware}, 2, 0, "*"},
		// The flags have an allocation for the function that says for whom they are evaluated.
		{"session, router, flags", []middleware{s.sm.Middleware, router, s.flags(t)}, 2, 0, "Cookie"},
		{"session, flags, router, observer", []middleware{s.sm.Middleware, s.flags(t), router, inside(t)}, 2, 0, "Cookie"},
		// The session shares the Slot and the Writer, and its visit is an allocation. A key that is read outside of the middleware
		// is not known to be from a cookie.
		{"observer, session, router", []middleware{outside(t), s.sm.Middleware, router}, 1, 1, "Cookie"},
		{"router, session", []middleware{router, s.sm.Middleware}, 2, 0, "*"},
		// The second router needs a Slot of its own for its side.
		{"session, two routers", []middleware{s.sm.Middleware, router, second}, 2, 0, "Cookie"},
		{"two sessions, router", []middleware{other.Middleware, s.sm.Middleware, router}, 2, 0, "Cookie"},
		{"the same session twice, router", []middleware{s.sm.Middleware, s.sm.Middleware, router}, 1, 0, "Cookie"},
		// The router shares nothing with the session, because its writer is another one.
		{"session, gzip, router", []middleware{s.sm.Middleware, gzips, router}, 2, 1, "Cookie"},
		{"gzip, session, router", []middleware{gzips, s.sm.Middleware, router}, 1, 1, "Cookie"},
		{"session, WithContext, router", []middleware{s.sm.Middleware, withValue, router}, 1, 2, "Cookie"},
	} {
		for _, method := range []string{"GET", "POST"} {
			h := chain(http.HandlerFunc(plain), test.list...)
			r, w := httptest.NewRequest(method, "/", nil), discard{http.Header{}}
			r.Header.Set("Cookie", s.cookie)
			n := testing.AllocsPerRun(200, func() {
				clear(w.header)
				h.ServeHTTP(w, r)
			})
			if n -= test.own; n != test.want || n > 2 {
				t.Errorf("%s %s: %v allocations, want %v", method, test.name, n, test.want)
			}
			if vary := w.header.Get("Vary"); method == "GET" && vary != test.vary {
				t.Errorf("%s: Vary: %q, want %q", test.name, vary, test.vary)
			}
		}
	}
}

// BenchmarkStack is a request through the whole stack, beside the handler alone.
func BenchmarkStack(b *testing.B) {
	s := newStack(b)
	router := s.router(canary.Options{})
	observed := s.router(canary.Options{Bad: canary.Outcome.Failed})
	for _, bench := range []struct {
		name string
		list []middleware
	}{
		{"plain", nil},
		{"session", []middleware{s.sm.Middleware}},
		{"session+router", []middleware{s.sm.Middleware, router}},
		{"session+observed router", []middleware{s.sm.Middleware, observed}},
		{"router+session", []middleware{router, s.sm.Middleware}},
		{"session+gzip+router", []middleware{s.sm.Middleware, gzips, router}},
	} {
		for _, method := range []string{"GET", "POST"} {
			b.Run(bench.name+"/"+method, func(b *testing.B) {
				h := chain(http.HandlerFunc(plain), bench.list...)
				r, w := httptest.NewRequest(method, "/", nil), discard{http.Header{}}
				r.Header.Set("Cookie", s.cookie)
				b.ReportAllocs()
				for b.Loop() {
					clear(w.header)
					h.ServeHTTP(w, r)
				}
			})
		}
	}
}

// A session inside of a middleware with a Slot and a Writer makes neither anew.
func TestTheSessionSharesSlotAndWriter(t *testing.T) {
	s, wr, slot := newStack(t), &request.Writer{}, &request.Slot{}
	s.sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if request.WriterOf(w) != wr || request.From(r.Context()) != slot || s.sm.Cohort(r) == "" {
			t.Error("another Slot or Writer, or no cohort")
		}
	})).ServeHTTP(wr.Wrap(httptest.NewRecorder()), slot.Init(get(), wr))
}
