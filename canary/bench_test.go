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
	return []way{
		{"off", canary.Options{}, browser, 0},
		{"all", canary.Options{Weight: canary.Fixed(1)}, browser, 0},
		{"keyless", canary.Options{Weight: half}, browser, 0},
		{"keyless with header", canary.Options{Weight: half, Header: "canary"}, browser, 0},
		{"forced", canary.Options{Header: "canary"}, []string{"Canary", "true"}, 0},
		{"key", canary.Options{Weight: half, Key: user}, browser, 0},
		{"cookie", canary.Options{Weight: half, Cookie: cookie}, browser, 0},
		{"side in context", canary.Options{Weight: half, Key: user, SideInContext: true}, browser, 2},
	}
}

type way struct {
	name    string
	opts    canary.Options
	headers []string
	allocs  float64
}

// Deciding allocates nothing, and telling the handlers what context.WithValue and WithContext need.
func TestDecisionAllocatesNothing(t *testing.T) {
	for _, way := range ways(t) {
		rt, r, w := canary.NewRouter(nothing, nothing, way.opts), request(way.headers...), discard{http.Header{}}
		if n := testing.AllocsPerRun(1000, func() { rt.ServeHTTP(w, r) }); n != way.allocs {
			t.Errorf("%s: %v allocations, want %v", way.name, n, way.allocs)
		}
		if len(w.header) != 0 {
			t.Errorf("%s: the answer has %v", way.name, w.header)
		}
	}
}

// BenchmarkDecide is the decision alone.
func BenchmarkDecide(b *testing.B) {
	for _, way := range ways(b) {
		b.Run(way.name, func(b *testing.B) {
			rt, r, w := canary.NewRouter(nothing, nothing, way.opts), request(way.headers...), discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				rt.Decide(w, r)
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
