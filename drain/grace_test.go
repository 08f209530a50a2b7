package drain_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
)

// Idle and silent connections do not make a drain exceed its Grace, however large IdleGrace is. They are closed in good order a
// second before the end of Grace, or when a quarter of Grace is left.
func TestGraceClosesIdleConnectionsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for grace, want := range map[time.Duration]time.Duration{
			8 * time.Second:        7 * time.Second,
			400 * time.Millisecond: 300 * time.Millisecond,
		} {
			b := newBubble(echo, drain.Options{Grace: grace, IdleGrace: time.Hour})
			idle, silent, begun := b.ln.dial(), b.ln.dial(), b.ln.dial()
			b.get(t, idle)
			io.WriteString(begun, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab\r\n")
			newClientUnbound(begun).read()
			b.end(upgraded{})
			since := time.Now()
			for _, nc := range []net.Conn{idle, silent, begun} {
				ended(t, nc)
				wantTime(t, "closed", time.Since(since), want)
			}
			if err := <-b.done; err != nil {
				t.Errorf("Serve = %v", err)
			}
		}
	})
}

// If a connection becomes idle even later, and its answer did not announce the end, it is closed at that moment.
func TestGraceClosesWhatBecomesIdleLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.NewResponseController(w).Flush() // the header goes out before the drain
			time.Sleep(9500 * time.Millisecond)
		}), drain.Options{Grace: 10 * time.Second})
		nc := b.ln.dial()
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		synctest.Wait()
		b.end(nil)
		if a, err := newClientUnbound(nc).read(); err != nil || a.close {
			t.Errorf("close %v, %v", a.close, err)
		}
		wantTime(t, "closed", ended(t, nc), 0)
		if err := <-b.done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

// A deafConn cannot be interrupted.
type deafConn struct{ net.Conn }

func (deafConn) SetReadDeadline(time.Time) error { return nil }

// A silent connection is not listed, even if it was cut because its Read could not be interrupted.
func TestGraceListsNoSilentConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, requests := range []int{0, 1} {
			b := newBubble(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), drain.Options{})
			near, far := net.Pipe()
			b.ln.conns <- deafConn{far}
			for range requests {
				io.WriteString(b.ln.dial(), "PUT /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
			}
			synctest.Wait()
			b.end(nil)
			wantTime(t, "closed", ended(t, near), 30*time.Second)
			var timeout *drain.TimeoutError
			left := 0
			if errors.As(<-b.done, &timeout) {
				left = len(timeout.Left)
			}
			if left != requests {
				t.Errorf("%d left of %d requests", left, requests)
			}
		}
	})
}

// Propagation takes half of Grace at most, so that there is time left to drain.
func TestPropagationLeavesHalfOfGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(echo, drain.Options{Grace: 20 * time.Second, Propagation: time.Hour})
		b.end(nil)
		time.Sleep(9 * time.Second)
		nc := b.ln.dial() // it still accepts
		if p := b.Status().Phase; p != drain.Propagating {
			t.Errorf("phase %v", p)
		}
		wantTime(t, "closed", ended(t, nc), time.Second)
		if err := <-b.done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

// The largest possible limits have the effect of no limit.
func TestGraceMayBeEndless(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{Grace: math.MaxInt64, IdleGrace: math.MaxInt64})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	s.stop()
	c.quiet()
	wantBody(t, c.get("/two"), "/two", true)
	c.closed()
	s.clean()
}

// A line end too many after a body keeps a connection open for one more IdleGrace, not for all of Grace. This holds for a line
// end that comes with the body or later.
func TestIdleGraceIsGivenTwiceToStrayBytes(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(echo, drain.Options{Grace: time.Minute})
		with, later, on := b.ln.dial(), b.ln.dial(), b.ln.dial()
		for _, nc := range []net.Conn{with, later, on} {
			text := post
			if nc != later {
				text += "\r\n"
			}
			io.WriteString(nc, text)
			newClientUnbound(nc).read()
		}
		io.WriteString(later, "\r\n")
		b.end(upgraded{})
		time.Sleep(9 * time.Second)
		wantBody(t, b.get(t, on), "/made", true) // it was the beginning of a request
		on.Close()
		wantTime(t, "closed", ended(t, with), time.Second)
		wantTime(t, "closed", ended(t, later), 0)
		if err := <-b.done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

// Functions of RegisterOnShutdown start at the latest when Grace has run out, and they start only once.
func TestGraceStartsTheFunctionsOfShutdown(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"a request": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a hijack":  hijack,
	} {
		t.Run(name, func(t *testing.T) {
			var told atomic.Int64
			srv := &http.Server{Handler: h}
			srv.RegisterOnShutdown(func() { told.Add(1) })
			s := serve(t, srv, drain.Options{Grace: 50 * time.Millisecond})
			c := s.dial()
			c.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
			s.until("it works", func() bool { st := s.Status(); return st.Active+st.Hijacked == 1 })
			s.stop()
			var timeout *drain.TimeoutError
			if err := s.wait(); !errors.As(err, &timeout) {
				t.Errorf("Serve = %v", err)
			}
			s.until("they were started", func() bool { return told.Load() > 0 })
			if n := told.Load(); n != 1 {
				t.Errorf("they were started %d times", n)
			}
		})
	}
}

// A stream that watches the context of Serve, as the package text says, ends the drain with its own end.
func TestStreamsEndWithTheContextOfServe(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	ln := listen(t)
	srv := drain.NewServer(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "data: hello\n\n")
		http.NewResponseController(w).Flush()
		<-ctx.Done()
	})}, drain.Options{Grace: time.Hour})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	c := (&service{t: t, addr: ln.Addr().String()}).dial()
	c.send("GET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if _, err := c.r.Peek(1); err != nil {
		t.Fatal(err)
	}
	end()
	if a := c.answer(); a.body != "data: hello\n\n" {
		t.Errorf("the stream was cut: %q", a.body)
	}
	c.closed()
	if err := <-done; err != nil {
		t.Errorf("Serve = %v", err)
	}
}
