package drain_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// If the context has already ended, Serve drains at once and returns nil.
func TestServeWithAnEndedContextDrains(t *testing.T) {
	for _, cause := range []error{nil, upgraded{}} {
		ctx, end := context.WithCancelCause(t.Context())
		end(cause)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := drain.NewServer(&http.Server{}, drain.Options{}).Serve(ctx, ln); err != nil {
			t.Errorf("Serve = %v", err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener is open: %v", err)
		}
		if err := drain.NewServer(&http.Server{Addr: "127.0.0.1:0"}, drain.Options{}).ListenAndServe(ctx); err != nil {
			t.Errorf("ListenAndServe = %v", err)
		}
	}
}

// After a drain has begun, Serve returns ErrClosed and closes the listener.
func TestServeAfterADrainIsRefused(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{})
	s.stop()
	s.clean()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), ln); !errors.Is(err, drain.ErrClosed) {
		t.Errorf("Serve = %v, want ErrClosed", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
	if st := s.Status(); st.Phase != drain.Drained || st.Since.IsZero() {
		t.Errorf("status %+v", st)
	}
}

// Several listeners are served by one Server; the end of one context drains all.
func TestServeSeveralListeners(t *testing.T) {
	srv := &http.Server{Handler: echo}
	one := serve(t, srv, drain.Options{})
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	other := make(chan error, 1)
	go func() { other <- one.Serve(context.Background(), ln) }()
	nc, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, b := one.dial(), newClient(t, nc)
	wantBody(t, a.get("/a"), "/a", false)
	wantBody(t, b.get("/b"), "/b", false)
	one.stop()
	wantBody(t, a.get("/a"), "/a", true)
	a.closed()
	wantBody(t, b.get("/b"), "/b", true)
	b.closed()
	one.clean()
	if err := <-other; err != nil {
		t.Errorf("the other Serve = %v", err)
	}
}

// If a listener fails, its Serve drains the accepted connections and returns the error.
func TestServeReturnsTheErrorOfAccept(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serveOn(t, ln, &http.Server{Handler: echo}, drain.Options{})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	ln.Close()
	s.until("it drains", func() bool { return s.Status().Phase == drain.Draining })
	wantBody(t, c.get("/two"), "/two", true)
	c.closed()
	if err := s.wait(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v, want net.ErrClosed", err)
	}
}

// An error that prevents the start is returned, and nothing is drained.
func TestServeReturnsWhatPreventsTheStart(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := drain.NewServer(&http.Server{Addr: ln.Addr().String()}, drain.Options{})
	if err := s.ListenAndServe(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("ListenAndServe = %v", err)
	}
	if err := s.ServeTLS(t.Context(), ln, "no-such-file", "no-such-file"); err == nil {
		t.Error("ServeTLS without a certificate succeeded")
	}
	if err := s.Serve(t.Context(), nil); err == nil {
		t.Error("Serve without a listener succeeded")
	}
	if p := s.Status().Phase; p != drain.Serving {
		t.Errorf("phase %v", p)
	}
}

// A nil http.Server is an empty one.
func TestServeWithoutAnHTTPServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- drain.NewServer(nil, drain.Options{}).Serve(ctx, ln) }()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, nc)
	if a := c.get("/"); a.status != http.StatusNotFound {
		t.Errorf("status %d", a.status)
	}
	end()
	c.get("/")
	c.closed()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type ctxKey struct{}

// The user's hooks of the http.Server are called as without drain, with the connections that the listener gave.
func TestServeCallsTheHooksOfTheUser(t *testing.T) {
	var mu sync.Mutex
	var states []http.ConnState
	var closed atomic.Bool
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		BaseContext: func(l net.Listener) context.Context {
			if l != ln {
				t.Errorf("BaseContext got a %T", l)
			}
			return context.Background()
		},
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, ctxKey{}, nc.(*net.TCPConn).RemoteAddr().String())
		},
		ConnState: func(nc net.Conn, state http.ConnState) {
			_ = nc.(*net.TCPConn)
			if state == http.StateClosed {
				<-time.After(20 * time.Millisecond) // the user has something to tidy up
			}
			mu.Lock()
			defer mu.Unlock()
			states = append(states, state)
			closed.Store(state == http.StateClosed)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Context().Value(ctxKey{}).(string))
		}),
	}
	s := serveOn(t, ln, srv, drain.Options{})
	c := s.dial()
	wantBody(t, c.get("/"), c.LocalAddr().String(), false)
	s.stop()
	wantBody(t, c.get("/"), c.LocalAddr().String(), true)
	c.closed()
	s.clean()
	if !closed.Load() {
		t.Error("Serve returned before the last hook")
	}
	want := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateClosed}
	if len(states) != len(want) {
		t.Fatalf("states %v, want %v", states, want)
	}
	for i := range want {
		if states[i] != want[i] {
			t.Fatalf("states %v, want %v", states, want)
		}
	}
}

// Readiness fails from the first moment of a plain stop; connections are accepted for Propagation, and every answer says close.
func TestPropagationAcceptsWhileNotReady(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{Propagation: 300 * time.Millisecond, IdleGrace: time.Nanosecond})
	idle := s.dial()
	wantBody(t, idle.get("/"), "/", false)
	if status, _ := probe(s); status != http.StatusOK {
		t.Errorf("readiness %d while serving", status)
	}
	s.stop()
	status, header := probe(s)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("readiness %d %v after a plain stop", status, header)
	}
	if p := s.Status().Phase; p != drain.Propagating {
		t.Errorf("phase %v", p)
	}
	c := s.dial()
	wantBody(t, c.get("/new"), "/new", true)
	c.closed()
	idle.quiet()
	idle.closed()
	s.clean()
	if _, err := net.Dial("tcp", s.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after the drain: %v", err)
	}
}

// Grace limits Propagation too.
func TestGraceLimitsPropagation(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{Propagation: time.Hour, Grace: 10 * time.Millisecond})
	s.stop()
	s.clean()
}

// The wrapper has the methods of the connection that the listener gave.
func TestHijackedConnectionsKeepTheirAbilities(t *testing.T) {
	got := make(chan net.Conn, 1)
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
		}
		got <- nc
	})}, drain.Options{})
	c := s.dial()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	nc := <-got
	defer nc.Close()
	below, ok := nc.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn)
	if !ok || below.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("NetConn is %v", below)
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil || raw.Control(func(uintptr) {}) != nil {
		t.Errorf("SyscallConn: %v", err)
	}
	if n, err := nc.(io.ReaderFrom).ReadFrom(&io.LimitedReader{R: zeros{}, N: 1000}); n != 1000 || err != nil {
		t.Errorf("ReadFrom = %d, %v", n, err)
	}
	if err := nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Errorf("CloseWrite: %v", err)
	}
	if n, err := io.Copy(io.Discard, c); n != 1000 || err != nil {
		t.Errorf("the client read %d, %v", n, err)
	}
	c.send("bye")
	c.Conn.(*net.TCPConn).CloseWrite()
	if n, err := nc.(io.WriterTo).WriteTo(io.Discard); n != 3 || err != nil {
		t.Errorf("WriteTo = %d, %v", n, err)
	}
	if err := nc.SetDeadline(time.Now()); err != nil {
		t.Errorf("SetDeadline: %v", err)
	}
	nc.Close()
	s.stop()
	s.clean()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Over TLS the same promises hold: idle, new and in the handshake, HTTP/1 and HTTP/2.
func TestDrainWithTLS(t *testing.T) {
	s := prepare(t, &http.Server{Handler: echo, TLSConfig: certificate(t)}, drain.Options{})
	s.startTLS()
	idle, fresh := s.dialTLS("http/1.1"), s.dialTLS("http/1.1")
	wantBody(t, idle.get("/one"), "/one", false)
	late := s.dial()
	s.until("all here", func() bool { st := s.Status(); return st.Idle == 1 && st.New == 2 })
	s.stop()
	shaking := newClient(t, tls.Client(late.Conn, &tls.Config{InsecureSkipVerify: true}))
	for _, c := range []*client{idle, fresh, shaking} {
		wantBody(t, c.get("/two"), "/two", true)
		c.closed()
	}
	s.clean()
}

// Old idle and silent connections are closed in TLS's own way, so that no client sees a truncation.
func TestDrainClosesIdleTLSConnections(t *testing.T) {
	s := prepare(t, &http.Server{Handler: echo, TLSConfig: certificate(t)}, drain.Options{IdleGrace: time.Millisecond})
	s.startTLS()
	used, fresh, silent := s.dialTLS("http/1.1"), s.dialTLS("http/1.1"), s.dial()
	wantBody(t, used.get("/one"), "/one", false)
	s.until("all here", func() bool { st := s.Status(); return st.Idle == 1 && st.New == 2 })
	s.handOver()
	used.closed()
	fresh.closed()
	silent.closed()
	s.clean()
}

// HTTP/2 connections drain, whether used or not.
func TestDrainWithHTTP2(t *testing.T) {
	s := prepare(t, &http.Server{Handler: echo, TLSConfig: certificate(t)}, drain.Options{IdleGrace: time.Millisecond})
	s.startTLS()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	get := func() {
		t.Helper()
		res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + s.addr + "/h2")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, _ := io.ReadAll(res.Body); res.ProtoMajor != 2 || string(body) != "/h2" {
			t.Errorf("%s %q", res.Proto, body)
		}
	}
	get()
	unused := s.dialTLS("h2")
	unused.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	s.until("both idle", func() bool { return s.Status().Idle == 2 })
	before := drain.Touched(s.Server)
	unused.send("\x00\x00\x00\x04\x01\x00\x00\x00\x00") // a frame outside of a stream makes no connection active
	s.until("it was read", func() bool { return drain.Touched(s.Server) > before })
	s.handOver()
	unused.ends()
	s.clean()
}

// A listener that gives *tls.Conn works, as far as this is possible without a wrapper below the TLS.
func TestDrainWithAListenerOfTLS(t *testing.T) {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	s := serveOn(t, ln, &http.Server{Handler: echo}, drain.Options{IdleGrace: 50 * time.Millisecond})
	used, silent := s.dialTLS("http/1.1"), s.dialTLS("http/1.1")
	wantBody(t, used.get("/one"), "/one", false)
	s.until("both here", func() bool { st := s.Status(); return st.Idle == 1 && st.New == 1 })
	s.stop()
	wantBody(t, used.get("/two"), "/two", true)
	used.closed()
	silent.closed()
	s.clean()
}

// With a listener that gives *tls.Conn, a drain does not wait for a hijacked connection, because the server would not see its
// Close.
func TestDrainWithAListenerOfTLSForgetsHijackedConnections(t *testing.T) {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	s := serveOn(t, ln, &http.Server{Handler: hijack}, drain.Options{})
	c := s.dialTLS("http/1.1")
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nhello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	s.handOver()
	s.clean()
	c.Close()
}
