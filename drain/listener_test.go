package drain_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
)

// stopped begins a plain stop of a service on ln while queued connections wait in the accept queue. The requests of all these
// connections must be answered.
func stopped(t *testing.T, ln net.Listener, srv *http.Server, queued int) {
	t.Helper()
	s := prepare(t, srv, drain.Options{})
	s.addr = ln.Addr().String()
	clients := make([]*client, queued)
	for i := range clients {
		clients[i] = s.dial()
	}
	s.run(func(ctx context.Context) error {
		s.end(nil)
		return s.Serve(ctx, ln)
	})
	s.until("the drain has begun", func() bool { return s.Status().Phase != drain.Serving })
	for _, c := range clients {
		c.send("GET /queued HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	for _, c := range clients {
		wantBody(t, c.answer(), "/queued", true)
		c.closed()
	}
	s.clean()
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln.(*net.TCPListener)
}

// slowly is a ConnContext that takes its time.
func slowly(ctx context.Context, _ net.Conn) context.Context {
	<-time.After(4 * time.Millisecond)
	return ctx
}

// All connections in the queue are accepted, although an accept loop with a slow hook needs longer for all of them than
// sweepTime.
func TestPlainStopAnswersTheQueueOfASlowLoop(t *testing.T) {
	stopped(t, listen(t), &http.Server{Handler: echo, ConnContext: slowly}, 20)
}

// bareListener has no deadlines, like most wrappers.
type bareListener struct{ net.Listener }

// All connections in the queue are accepted also if the listener has no SetDeadline.
func TestPlainStopAnswersTheQueueOfAListenerWithoutDeadlines(t *testing.T) {
	stopped(t, bareListener{listen(t)}, &http.Server{Handler: echo, ConnContext: slowly}, 20)
}

// A listener without SetDeadline is not closed while the accept loop is busy for longer than sweepTime.
func TestPlainStopAnswersTheQueueOfABusyLoop(t *testing.T) {
	busy := func(ctx context.Context, _ net.Conn) context.Context {
		<-time.After(40 * time.Millisecond)
		return ctx
	}
	stopped(t, bareListener{listen(t)}, &http.Server{Handler: echo, ConnContext: busy}, 5)
}

// The first Accept of a fullListener in the sweep fails for want of descriptors.
type fullListener struct {
	*net.TCPListener
	begun chan struct{}
	begin sync.Once
	fail  sync.Once
}

func (l *fullListener) SetDeadline(t time.Time) error {
	l.begin.Do(func() { close(l.begun) })
	return l.TCPListener.SetDeadline(t)
}

func (l *fullListener) Accept() (nc net.Conn, err error) {
	<-l.begun
	l.fail.Do(func() {
		err = &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	})
	if err != nil {
		return nil, err
	}
	return l.TCPListener.Accept()
}

// A temporary error of Accept does not end the sweep.
func TestPlainStopAnswersTheQueueAfterAPassingError(t *testing.T) {
	ln := &fullListener{TCPListener: listen(t), begun: make(chan struct{})}
	stopped(t, ln, &http.Server{Handler: echo}, 5)
}

// If new connections do not stop coming, a plain stop accepts them for a second, and then closes the listener.
func TestPlainStopAcceptsForASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(echo, drain.Options{})
		synctest.Wait()
		since := time.Now()
		b.end(nil)
		for open := true; open; {
			near, far := net.Pipe()
			select {
			case b.ln.conns <- far:
				b.get(t, near)
				time.Sleep(10 * time.Millisecond)
			case <-b.ln.end:
				far.Close()
				open = false
			}
			near.Close()
		}
		wantTime(t, "the listener was closed", time.Since(since), time.Second)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
	})
}

// The Accept of a lateListener returns a last connection when the listener is closed.
type lateListener struct {
	*pipeListener
	last chan net.Conn
}

func (l lateListener) Accept() (net.Conn, error) {
	nc, err := l.pipeListener.Accept()
	if err == nil {
		return nc, nil
	}
	select {
	case nc := <-l.last:
		return nc, nil
	default:
		return nil, err
	}
}

// late returns a client, and a listener whose last connection is the server's side of the connection of this client.
func late(t *testing.T) (*client, lateListener) {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l := lateListener{newPipeListener(), make(chan net.Conn, 1)}
	l.last <- far
	return newClient(t, near), l
}

// A connection that is accepted at the very end of the accept loop is served.
func TestDrainServesWhatItAcceptsLast(t *testing.T) {
	for range 50 {
		c, ln := late(t)
		s := serveOn(t, ln, &http.Server{Handler: echo}, drain.Options{})
		s.end(upgraded{})
		wantBody(t, c.get("/last"), "/last", true)
		c.closed()
		s.clean()
	}
}

// A drain offers a connection that is accepted last to Move when the loop ends, not an IdleGrace later.
func TestDrainOffersWhatItAcceptsLast(t *testing.T) {
	for range 50 {
		c, ln := late(t)
		s := serveOn(t, ln, &http.Server{Handler: echo}, drain.Options{
			IdleGrace: time.Hour, Grace: time.Hour,
			Move: func(nc net.Conn) bool { nc.Close(); return true },
		})
		s.handOver()
		c.closed()
		s.clean()
	}
}

// If left counts no accept loop, it counts the last connection that a loop has accepted.
func TestWhatIsLeftIncludesTheLastConnection(t *testing.T) {
	for i := range 5_000 {
		if owned := drain.LastAccepted(); owned != 1 {
			t.Fatalf("round %d: %d connections", i, owned)
		}
	}
}

// ServeTLS returns an error if a certificate cannot be read, even if the context has already ended.
func TestServeTLSReturnsTheErrorOfACertificateInADrain(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	end(upgraded{})
	for range 20 {
		s := drain.NewServer(&http.Server{}, drain.Options{})
		if err := s.ServeTLS(ctx, listen(t), "no-such-file", "no-such-file"); err == nil {
			t.Fatal("ServeTLS without a certificate succeeded")
		}
	}
}

// If the listener of ServeTLS gives connections with a method ConnectionState, the server still finds their conns, so the drain
// ends.
func TestServeTLSOverConnectionsWithATLSState(t *testing.T) {
	s := prepare(t, &http.Server{Handler: echo, TLSConfig: certificate(t)}, drain.Options{})
	ln := wrapping{listen(t), func(c *net.TCPConn) net.Conn { return tunnelConn{c} }}
	s.addr = ln.Addr().String()
	s.run(func(ctx context.Context) error { return s.ServeTLS(ctx, ln, "", "") })
	c := s.dialTLS("http/1.1")
	wantBody(t, c.get("/one"), "/one", false)
	s.until("idle", func() bool { return s.Status().Idle == 1 })
	s.stop()
	wantBody(t, c.get("/two"), "/two", true)
	c.closed()
	s.clean()
}

// A half is a pipe with a CloseWrite that does nothing and returns no error.
type half struct{ net.Conn }

func (half) CloseWrite() error { return nil }

// A connection that is accepted after Grace has run out has ended when Serve returns: it does not linger.
func TestGraceEndsWhatIsAcceptedAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bubbleOf(&http.Server{Handler: echo, ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			time.Sleep(150 * time.Millisecond)
			return ctx
		}}, drain.Options{Grace: 100 * time.Millisecond})
		ln := lateListener{b.ln, make(chan net.Conn, 1)}
		near, far := net.Pipe()
		ln.last <- half{far}
		b.run(func(ctx context.Context, _ net.Listener) error { return b.Serve(ctx, ln) })
		first := b.ln.dial()
		b.end(nil)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		for _, nc := range []net.Conn{first, near} {
			if d := ended(t, nc); d != 0 {
				t.Errorf("a connection ended %v after Serve", d)
			}
			nc.Close()
		}
	})
}
