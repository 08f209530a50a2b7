package canary_test

import (
	"net/http"
	"testing"

	"github.com/midair-go/midair/canary"
)

var nothing = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// ways are a router for each way to decide, with a request that it decides so.
func ways(t testing.TB) (list []way) {
	cookie := newCookie(canary.CookieOptions{})
	v := newVisitor(t)
	v.visit(router(canary.Options{Weight: half, Cookie: cookie}))
	user := func(*http.Request) string { return "user-1234567890" }
	browser := []string{
		"Accept", "text/html", "Accept-Encoding", "gzip", "Accept-Language", "en", "User-Agent", "Mozilla/5.0",
		"Cookie", "_ga=GA1.1.1234567890.1234567890; session=0123456789abcdef; visitor=" + v.cookies["visitor"],
	}
	open, killed := canary.NewKillSwitch("", canary.KillSwitchOptions{Logger: quiet}), canary.NewKillSwitch("", canary.KillSwitchOptions{Logger: quiet})
	if err := killed.Kill("bad"); err != nil {
		t.Fatal(err)
	}
	return []way{
		{"off", canary.Options{}, browser, 0},
		{"all", canary.Options{Weight: canary.Fixed(1)}, browser, 0},
		{"keyless", canary.Options{Weight: half}, browser, 1},
		{"keyless with header", headed(canary.Options{Weight: half}, "canary"), browser, 1},
		{"forced", headed(canary.Options{}, "canary"), []string{"Canary", "true"}, 1},
		{"key", canary.Options{Weight: half, Key: user}, browser, 1},
		{"key with Vary", canary.Options{Weight: half, Key: user, Vary: []string{"User"}}, browser, 1},
		{"cookie", canary.Options{Weight: half, Cookie: cookie}, browser, 1},
		{"same for all", canary.Options{Weight: half, Key: user, SameForAll: func(*http.Request) bool { return true }}, browser, 0},
		{"switch, all", canary.Options{Weight: canary.Fixed(1), Kill: open}, browser, 0},
		{"switch, key", canary.Options{Weight: half, Key: user, Kill: open}, browser, 1},
		{"killed", canary.Options{Weight: half, Key: user, Kill: killed}, browser, 0},
		{"side in context", canary.Options{Weight: half, Key: user, SideInContext: true}, browser, 1},
	}
}

type way struct {
	name    string
	opts    canary.Options
	headers []string
	allocs  float64 // of ServeHTTP for a GET: the writer that tells caches what the side depends on
}

// Deciding allocates nothing. A GET whose answer has to say something to caches, and a handler that is told its side, cost one
// allocation together. A POST, which no cache stores, costs none.
func TestDecisionAllocatesNothing(t *testing.T) {
	for _, way := range ways(t) {
		rt, r, w := canary.NewRouter(nothing, nothing, way.opts), request(way.headers...), discard{http.Header{}}
		if n := testing.AllocsPerRun(1000, func() { rt.Decide(r) }); n != 0 {
			t.Errorf("%s: %v allocations for the decision", way.name, n)
		}
		if n := testing.AllocsPerRun(1000, func() { clear(w.header); rt.ServeHTTP(w, r) }); n != way.allocs {
			t.Errorf("%s: %v allocations, want %v", way.name, n, way.allocs)
		}
		if _, says := w.header["Vary"]; says != (way.allocs > 0) {
			t.Errorf("%s: the answer has %v", way.name, w.header)
		}
		r.Method, w = "POST", discard{http.Header{}}
		want := 0.0
		if way.opts.SideInContext {
			want = 1
		}
		if n := testing.AllocsPerRun(1000, func() { rt.ServeHTTP(w, r) }); n != want || len(w.header) != 0 {
			t.Errorf("%s: a POST costs %v allocations, and its answer has %v", way.name, n, w.header)
		}
	}
}

// BenchmarkDecide is the decision alone, beside a handler that does nothing.
func BenchmarkDecide(b *testing.B) {
	b.Run("bare handler", func(b *testing.B) { serve(b, nothing, request()) })
	for _, way := range ways(b) {
		b.Run(way.name, func(b *testing.B) {
			rt, r := canary.NewRouter(nothing, nothing, way.opts), request(way.headers...)
			b.ReportAllocs()
			for b.Loop() {
				rt.Decide(r)
			}
		})
	}
}

// BenchmarkServeHTTP is a request through the router, its counters included, beside the handler alone.
func BenchmarkServeHTTP(b *testing.B) {
	b.Run("plain", func(b *testing.B) { serve(b, nothing, request()) })
	for _, way := range ways(b) {
		b.Run(way.name, func(b *testing.B) {
			serve(b, canary.NewRouter(nothing, nothing, way.opts), request(way.headers...))
		})
	}
}

// BenchmarkParallel is the same from all processors at once.
func BenchmarkParallel(b *testing.B) {
	for _, way := range ways(b) {
		b.Run(way.name, func(b *testing.B) {
			rt := canary.NewRouter(nothing, nothing, way.opts)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r, w := request(way.headers...), discard{http.Header{}}
				for pb.Next() {
					rt.ServeHTTP(w, r)
				}
			})
		})
	}
}

// BenchmarkNewVisitor is the first request of a visitor, which gets a cookie.
func BenchmarkNewVisitor(b *testing.B) {
	opts := canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})}
	rt := canary.NewRouter(nothing, nothing, opts)
	r, w := request(), discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		rt.ServeHTTP(w, r)
		clear(w.header)
	}
}

func serve(b *testing.B, h http.Handler, r *http.Request) {
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}
