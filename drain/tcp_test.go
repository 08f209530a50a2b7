package drain_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
)

// echoRaw sends back all bytes that it reads, until the client closes its side.
func echoRaw(_ context.Context, nc net.Conn) { io.Copy(nc, nc) }

// serveRaw starts a service of raw connections.
func serveRaw(t testing.TB, opts drain.Options, h func(context.Context, net.Conn)) *service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := prepare(t, &http.Server{}, opts)
	s.addr = ln.Addr().String()
	s.run(func(ctx context.Context) error { return s.ServeTCP(ctx, ln, h) })
	return s
}

func (c *client) echoes(text string) {
	c.t.Helper()
	c.send(text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != text {
		c.t.Fatalf("%q, %v; want %q", got, err, text)
	}
}

// In a drain, a raw connection goes on as long as bytes pass. It ends in good order after IdleGrace without a byte (F14).
func TestRawConnectionsEndInASilence(t *testing.T) {
	for name, h := range map[string]func(context.Context, net.Conn){
		"both talk":        echoRaw,
		"the client talks": func(_ context.Context, nc net.Conn) { io.Copy(io.Discard, nc) },
		"the server talks": func(_ context.Context, nc net.Conn) {
			for range 4 {
				io.WriteString(nc, "ping")
				time.Sleep(4 * time.Second)
			}
			io.Copy(io.Discard, nc)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bubbleOf(&http.Server{}, drain.Options{})
				b.run(func(ctx context.Context, ln net.Listener) error { return b.ServeTCP(ctx, ln, h) })
				c := newClientUnbound(b.ln.dial())
				b.end(upgraded{})
				since := time.Now()
				for range 4 {
					if name != "the server talks" {
						io.WriteString(c, "ping")
					}
					if name != "the client talks" {
						io.ReadFull(c, make([]byte, 4))
					}
					time.Sleep(4*time.Second - time.Since(since)%(4*time.Second))
				}
				wantTime(t, "closed", ended(t, c), time.Second)
				if err := <-b.done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// If one side of a raw connection is closed, the other side gets io.EOF, in both directions. The last bytes arrive although the
// client has sent more (F5).
func TestRawConnectionsPassOnAHalfClose(t *testing.T) {
	s := serveRaw(t, drain.Options{}, func(_ context.Context, nc net.Conn) {
		io.ReadAll(io.LimitReader(nc, 5))
		io.WriteString(nc, "answer")
		nc.(interface{ CloseWrite() error }).CloseWrite()
		io.CopyN(io.Discard, nc, 3)
	})
	c := s.dial()
	c.send("helloabcunread and unread")
	got, err := io.ReadAll(c.r)
	if err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	half := s.dial()
	half.send("he")
	half.Conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(half.r); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
	half.Close()
	s.stop()
	s.clean()
}

// Bytes of the client that were not read do not destroy an answer that is still in the kernel, in a drain and before (F5).
func TestRawConnectionsAreClosedWithoutReset(t *testing.T) {
	answer := make([]byte, 100_000)
	s := serveRaw(t, drain.Options{}, func(_ context.Context, nc net.Conn) {
		io.CopyN(io.Discard, nc, 1)
		nc.Write(answer)
	})
	c := s.dial()
	c.send("more than is read")
	s.until("the answer is on its way", func() bool { return len(s.Entries()) == 1 && s.Entries()[0].State == "closing" })
	s.handOver()
	c.send("and more")
	if n, err := io.Copy(io.Discard, c.r); n != int64(len(answer)) || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	c.Close()
	s.clean()
}

// A handler ends its protocol when it learns of the drain. The drain waits until the handler has returned, even after it has
// closed the connection.
func TestRawHandlersEndTheirProtocol(t *testing.T) {
	tidy := make(chan struct{})
	s := serveRaw(t, drain.Options{Grace: time.Hour}, func(ctx context.Context, nc net.Conn) {
		io.WriteString(nc, "220 ready\r\n")
		<-drain.FromContext(ctx).Begun()
		io.WriteString(nc, "421 closing\r\n")
		nc.Close()
		<-tidy
	})
	c := s.dial()
	s.until("accepted", func() bool { e := s.Entries(); return len(e) == 1 && e[0].Protocol == "tcp" && e[0].Written > 0 })
	s.handOver()
	if got, err := io.ReadAll(c.r); err != nil || string(got) != "220 ready\r\n421 closing\r\n" {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	s.open()
	close(tidy)
	s.clean()
}

// If a raw connection is in use when Grace has run out, its context is cancelled, the connection is cut, and it is listed with
// the numbers of its bytes.
func TestGraceEndsRawConnections(t *testing.T) {
	cause := make(chan error, 1)
	s := serveRaw(t, drain.Options{Grace: 50 * time.Millisecond, IdleGrace: time.Hour}, func(ctx context.Context, nc net.Conn) {
		io.CopyN(nc, nc, 5)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		io.Copy(io.Discard, nc)
	})
	c := s.dial()
	c.echoes("hello")
	s.stop()
	var timeout *drain.TimeoutError
	if err := s.wait(); !errors.As(err, &timeout) || len(timeout.Left) != 1 {
		t.Fatalf("Serve = %v", err)
	}
	l := timeout.Left[0]
	if l.Protocol != "tcp" || l.Remote != c.LocalAddr().String() || l.Read != 5 || l.Written != 5 || l.Action != "cancelled" {
		t.Errorf("left %+v", l)
	}
	if err := <-cause; !errors.Is(err, drain.ErrExpired) {
		t.Errorf("cause %v", err)
	}
	c.Close()
}

// If a handler panics, only its own connection ends.
func TestRawHandlersMayPanic(t *testing.T) {
	var logged bytes.Buffer
	s := serveRaw(t, drain.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))}, func(_ context.Context, nc net.Conn) {
		if b, _ := io.ReadAll(io.LimitReader(nc, 1)); string(b) == "!" {
			panic("of the user")
		}
		io.WriteString(nc, "fine")
	})
	bad, good := s.dial(), s.dial()
	bad.send("!")
	bad.closed()
	good.send(".")
	if got, err := io.ReadAll(good.r); err != nil || string(got) != "fine" {
		t.Errorf("%q, %v", got, err)
	}
	good.Close()
	s.stop()
	s.clean()
	contains(t, logged.String(), "panicked", "of the user", bad.LocalAddr().String())
}

// The HTTP connections and the raw connections of a server end in the same drain.
func TestProtocolsShareADrain(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{})
	ln := listen(t)
	raw := make(chan error, 1)
	go func() { raw <- s.ServeTCP(context.Background(), ln, echoRaw) }()
	web, tcp := s.dial(), (&service{t: t, addr: ln.Addr().String()}).dial()
	wantBody(t, web.get("/one"), "/one", false)
	tcp.echoes("one")
	s.stop()
	wantBody(t, web.get("/two"), "/two", true)
	web.closed()
	tcp.echoes("two")
	s.open()
	tcp.Conn.(*net.TCPConn).CloseWrite()
	tcp.closed()
	s.clean()
	if err := <-raw; err != nil {
		t.Error(err)
	}
}

// If another server names its protocol tcp in ServeFunc, its connections are not raw connections of ServeTCP: a drain does not
// end them after a silence.
func TestServeFuncMayBeNamedTCP(t *testing.T) {
	s := prepare(t, &http.Server{}, drain.Options{IdleGrace: time.Millisecond})
	ln := listen(t)
	s.addr = ln.Addr().String()
	accepted := make(chan net.Conn, 1)
	s.run(func(ctx context.Context) error {
		return s.ServeFunc(ctx, ln, "tcp", func(l net.Listener) error {
			for {
				nc, err := l.Accept()
				if err != nil {
					return err
				}
				accepted <- nc
			}
		})
	})
	c := s.dial()
	nc := <-accepted
	s.handOver()
	s.open()
	nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // a hundred times IdleGrace
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	nc.Close()
	c.Close()
	s.clean()
}

// The drain ends the accept loop of another server, and waits for its connections. ServeFunc without a protocol name returns an
// error.
func TestServeFuncDrainsAnotherServer(t *testing.T) {
	s := prepare(t, &http.Server{}, drain.Options{})
	ln := listen(t)
	s.addr = ln.Addr().String()
	if err := s.ServeFunc(t.Context(), listen(t), "", nil); err == nil {
		t.Error("a protocol without a name was taken")
	}
	accepted := make(chan net.Conn)
	s.run(func(ctx context.Context) error {
		return s.ServeFunc(ctx, ln, "smtp", func(l net.Listener) error {
			for {
				nc, err := l.Accept()
				if err != nil {
					return err
				}
				accepted <- nc
			}
		})
	})
	c := s.dial()
	nc := <-accepted
	if e := s.Entries(); len(e) != 1 || e[0].Protocol != "smtp" {
		t.Errorf("entries %+v", e)
	}
	s.handOver()
	s.open()
	io.WriteString(nc, "bye")
	nc.Close()
	if got, err := io.ReadAll(c.r); err != nil || string(got) != "bye" {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	s.clean()
}
