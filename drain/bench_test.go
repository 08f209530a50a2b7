package drain_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })

// captured is a request as the wrapped handler gets it from net/http, its connection in the context.
func captured(t testing.TB) (*drain.Server, *http.Request) {
	got := make(chan *http.Request, 1)
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- r })}, drain.Options{})
	c := s.dial()
	c.get("/bench")
	c.Close()
	s.stop()
	s.clean()
	r := <-got
	return drain.NewServer(nil, drain.Options{}), r
}

var noDeadline time.Time

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// The request path allocates nothing of its own: neither the handler nor the connection below it.
func TestRequestsAllocateNothing(t *testing.T) {
	s, r := captured(t)
	h := drain.Wrap(s, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w := discard{http.Header{}}
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// The connection allocates nothing either: a request through a real server costs as many allocations as without drain.
func TestConnectionsAllocateNothing(t *testing.T) {
	plain := httptest.NewServer(hello)
	defer plain.Close()
	p := (&service{t: t, addr: plain.Listener.Addr().String()}).dial()
	s := serve(t, &http.Server{Handler: hello}, drain.Options{})
	c := s.dial()
	const rounds = 9
	// more has for each round how many more allocations a request costs with drain. The requests without drain run right
	// before, because the scheduling of goroutines changes both numbers for longer than a round.
	var more [rounds]float64
	for i := range more {
		without := perRequest(p)
		more[i] = perRequest(c) - without
	}
	slices.Sort(more[:])
	t.Logf("allocations a request, client included, more than without drain: %.2f", more)
	if median := more[rounds/2]; median > 0.5 {
		t.Errorf("drain adds %.2f allocations to a request", median)
	}
	c.Close()
	s.stop()
	s.clean()
}

// perRequest is the mean of a round.
func perRequest(c *client) float64 {
	const requests = 400
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range requests {
		c.get("/")
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / requests
}

// BenchmarkHandler measures what drain adds to the handler of a request.
func BenchmarkHandler(b *testing.B) {
	s, r := captured(b)
	w := discard{http.Header{}}
	for name, h := range map[string]http.Handler{"plain": hello, "drain": drain.Wrap(s, hello)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}

// BenchmarkRequest measures a request over loopback on a keep-alive connection.
func BenchmarkRequest(b *testing.B) {
	b.Run("plain", func(b *testing.B) {
		plain := httptest.NewServer(hello)
		defer plain.Close()
		requests(b, (&service{t: b, addr: plain.Listener.Addr().String()}).dial())
	})
	b.Run("drain", func(b *testing.B) {
		s := serve(b, &http.Server{Handler: hello}, drain.Options{})
		requests(b, s.dial())
	})
}

func requests(b *testing.B, c *client) {
	c.SetDeadline(noDeadline)
	b.ReportAllocs()
	for b.Loop() {
		c.get("/")
	}
	c.Close()
}

// A memory connection always has bytes to read, and takes whatever is written.
type memory struct{ net.Conn }

func (memory) Read(p []byte) (int, error)      { return len(p), nil }
func (memory) Write(p []byte) (int, error)     { return len(p), nil }
func (memory) SetReadDeadline(time.Time) error { return nil }

// The registry's hooks for a request allocate nothing.
func TestRegistryAllocatesNothing(t *testing.T) {
	for _, major := range []int{1, 2} {
		r := httptest.NewRequest("GET", "/bench", nil)
		r.ProtoMajor = major
		request := drain.Hooks(drain.NewServer(nil, drain.Options{}), memory{}, r)
		if n := testing.AllocsPerRun(1000, request); n != 0 {
			t.Errorf("HTTP/%d: %v allocations a request", major, n)
		}
	}
}

// BenchmarkRegistry measures what the hooks of the registry cost a request on a connection in memory, and what two readings of
// the clock cost, which are a part of the hooks.
func BenchmarkRegistry(b *testing.B) {
	b.Run("hooks and two clock reads", func(b *testing.B) {
		request := drain.Hooks(drain.NewServer(nil, drain.Options{}), memory{}, httptest.NewRequest("GET", "/bench", nil))
		b.ReportAllocs()
		for b.Loop() {
			request()
		}
	})
	b.Run("two clock reads", func(b *testing.B) {
		for b.Loop() {
			runtime.KeepAlive(time.Now())
			runtime.KeepAlive(time.Now())
		}
	})
}
