package drain_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
)

// A pipeListener accepts connections in memory, as a test with the fake time of synctest needs.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	end   chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), end: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.end:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.end) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipeListener) dial() net.Conn {
	near, far := net.Pipe()
	l.conns <- far
	return near
}

// A bubble is a service for tests with the fake time of synctest.
type bubble struct {
	*drain.Server
	ln   *pipeListener
	end  context.CancelCauseFunc
	done chan error
}

func newBubble(h http.Handler, opts drain.Options) *bubble {
	b := bubbleOf(&http.Server{Handler: h}, opts)
	b.run(b.Serve)
	return b
}

func bubbleOf(srv *http.Server, opts drain.Options) *bubble {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &bubble{drain.NewServer(srv, opts), newPipeListener(), nil, make(chan error, 1)}
}

func (b *bubble) run(serve func(context.Context, net.Listener) error) {
	var ctx context.Context
	ctx, b.end = context.WithCancelCause(context.Background())
	go func() { b.done <- serve(ctx, b.ln) }()
}

// get sends a request and reads the answer.
func (b *bubble) get(t *testing.T, nc net.Conn) answer {
	t.Helper()
	if _, err := io.WriteString(nc, "GET /made HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	a, err := newClientUnbound(nc).read()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ended waits until the server closes the connection, and returns how long it has waited.
func ended(t *testing.T, nc net.Conn) time.Duration {
	t.Helper()
	since := time.Now()
	if _, err := nc.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v, want EOF", err)
	}
	return time.Since(since)
}

func wantTime(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want || got > want+20*time.Millisecond {
		t.Errorf("%s after %v, want %v", what, got, want)
	}
}

// By default an idle connection is closed in the drain when it has been idle for five seconds. The time before the drain counts
// too.
func TestIdleGraceCountsFromTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(echo, drain.Options{})
		nc := b.ln.dial()
		b.get(t, nc)
		time.Sleep(3 * time.Second)
		b.end(nil)
		wantTime(t, "closed", ended(t, nc), 2*time.Second)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
	})
}

// By default a connection on which the client has never sent anything is closed 0.8 seconds after it was accepted (F2), so a
// drain waits less than a second for it. If the user has set IdleGrace, the connection is closed after IdleGrace.
func TestIdleGraceCountsFromTheAcceptOfASilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for grace, want := range map[time.Duration]time.Duration{0: 500 * time.Millisecond, 5 * time.Second: 4700 * time.Millisecond} {
			b := newBubble(echo, drain.Options{IdleGrace: grace})
			nc := b.ln.dial()
			time.Sleep(300 * time.Millisecond)
			b.end(upgraded{})
			wantTime(t, "closed", ended(t, nc), want)
			if err := <-b.done; err != nil {
				t.Error(err)
			}
		}
	})
}

// A new TLS connection is closed five seconds after the last byte of the client, so that a handshake is not cut.
func TestIdleGraceCountsFromTheHandshake(t *testing.T) {
	srv := &http.Server{Handler: echo, TLSConfig: certificate(t), ErrorLog: log.New(io.Discard, "", 0)}
	synctest.Test(t, func(t *testing.T) {
		b := bubbleOf(srv, drain.Options{})
		b.run(func(ctx context.Context, ln net.Listener) error { return b.ServeTLS(ctx, ln, "", "") })
		nc := tls.Client(b.ln.dial(), &tls.Config{InsecureSkipVerify: true})
		time.Sleep(4 * time.Second)
		if err := nc.Handshake(); err != nil {
			t.Fatal(err)
		}
		b.end(nil)
		wantTime(t, "closed", ended(t, nc), 5*time.Second)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
	})
}

// A connection that becomes idle in the drain, and whose answer did not announce the end, is closed five seconds after the
// answer.
func TestIdleGraceIsGivenToThoseThatBecomeIdleLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Write(nil)
			http.NewResponseController(w).Flush() // the header goes out before the drain
			time.Sleep(7 * time.Second)
		}), drain.Options{})
		nc := b.ln.dial()
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(time.Second)
		b.end(nil)
		if a, err := newClientUnbound(nc).read(); err != nil || a.close {
			t.Errorf("close %v, %v", a.close, err)
		}
		wantTime(t, "closed", ended(t, nc), 5*time.Second)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
	})
}

// By default a drain ends after thirty seconds. Twenty of the entries that are left are logged.
func TestGraceEndsTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		b := newBubble(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}), drain.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil)), Propagation: 10 * time.Second})
		for range 25 {
			nc := b.ln.dial()
			defer nc.Close()
			io.WriteString(nc, "GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		synctest.Wait()
		since := time.Now()
		b.end(nil)
		err := <-b.done
		wantTime(t, "Serve returned", time.Since(since), 30*time.Second+250*time.Millisecond) // the clients do not read
		var timeout *drain.TimeoutError
		if !errors.As(err, &timeout) || len(timeout.Left) != 25 {
			t.Fatalf("Serve = %v", err)
		}
		if n := strings.Count(err.Error(), "GET /stuck"); n != 20 {
			t.Errorf("%d leftovers in %q", n, err)
		}
		if n := strings.Count(logged.String(), "GET /stuck"); n != 20 {
			t.Errorf("%d leftovers in the log", n)
		}
		contains(t, logged.String(), "more=5", "for=30s", "state=active")
	})
}

// Propagation is skipped by a handover and kept by a plain stop.
func TestPropagationIsForPlainStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for cause, want := range map[error]time.Duration{nil: 7 * time.Second, upgraded{}: 0} {
			b := newBubble(echo, drain.Options{Propagation: 7 * time.Second})
			synctest.Wait()
			since := time.Now()
			b.end(cause)
			if err := <-b.done; err != nil {
				t.Error(err)
			}
			wantTime(t, "Serve returned", time.Since(since), want)
		}
	})
}

// A cause that is wrapped is found.
func TestHandoverIsFoundInAWrappedCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(echo, drain.Options{Propagation: time.Hour})
		b.end(errors.Join(errors.New("some reason"), upgraded{}))
		if err := <-b.done; err != nil {
			t.Error(err)
		}
	})
}
