package drain_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// adopted is a connection that came from another process while it was between two requests.
type adopted struct {
	net.Conn // hides the methods by which a program could bypass adopted
	of       *adoptedListener
	ahead    *[]byte
}

func (g adopted) SetIdle()    { g.of.parked.Add(1) }
func (adopted) WasIdle() bool { return true }
func (g adopted) Kept() bool  { return !g.of.given }
func (g adopted) Own()        { g.of.owned.Add(1) }

func (g adopted) Ahead(p []byte) int {
	n := copy(p, *g.ahead)
	*g.ahead = (*g.ahead)[n:]
	return n
}

func (g adopted) NetConn() net.Conn                     { return g.Conn }
func (g adopted) SyscallConn() (syscall.RawConn, error) { return g.Conn.(syscall.Conn).SyscallConn() }

// An adoptedListener is a listener whose AcceptMoved returns only adopted connections.
type adoptedListener struct {
	net.Listener
	given  bool   // the other process has given the connections away for good: it keeps no descriptor
	ahead  string // the bytes that come with each connection
	parked atomic.Int64
	owned  atomic.Int64
}

func (l *adoptedListener) AcceptMoved() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	ahead := []byte(l.ahead)
	return adopted{nc, l, &ahead}, nil
}

// short is a time limit that runs out in the tests. long is a time limit that does not run out.
const (
	short = 100 * time.Millisecond
	long  = time.Minute
)

func serveAdopted(t *testing.T, srv *http.Server) *service {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, &adoptedListener{Listener: ln}, srv, drain.Options{})
}

// The server calls SetIdle (parks the connection) between two requests. It does so only if it is certain that no byte was read,
// and as long as the other process has a descriptor.
func TestOnlyKeptConnectionsAreParked(t *testing.T) {
	for _, c := range []struct{ given, unknown bool }{{false, false}, {true, false}, {false, true}} {
		func() {
			if c.unknown {
				defer drain.SetReadsAsKnown(false)()
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &adoptedListener{Listener: ln, given: c.given}
			s := serveOn(t, l, &http.Server{Handler: echo}, drain.Options{})
			client := s.dial()
			for n, path := range []string{"/one", "/two"} {
				wantBody(t, client.get(path), path, false)
				if !c.given && !c.unknown { // if the next request had come already, the connection would not be parked
					s.until("it is parked", func() bool { return int(l.parked.Load()) == n+1 })
				}
			}
			client.Close()
			s.stop()
			s.clean()
			if n := l.parked.Load(); n > 0 != (!c.given && !c.unknown) {
				t.Errorf("given for good %v, unknown net/http %v: parked %d times", c.given, c.unknown, n)
			}
		}()
	}
}

// Of an adopted connection, hooks get the inner connection of package net, and Hijack gives all methods of that connection.
func TestHandlersGetTheConnectionBelowAnAdoptedOne(t *testing.T) {
	seen, hijacked := make(chan net.Conn, 1), make(chan net.Conn, 1)
	s := serveAdopted(t, &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			hijacked <- nc
			nc.Close()
		}),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			seen <- nc
			return ctx
		},
	})
	c := s.dial()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, ok := (<-seen).(*net.TCPConn); !ok {
		t.Error("ConnContext does not get the connection of package net")
	}
	if _, ok := (<-hijacked).(interface{ CloseRead() error }); !ok {
		t.Error("Hijack does not give the methods of package net")
	}
	c.Close()
	s.stop()
}

// An adopted connection waits for its next request as long as an idle connection does. The limits for a header, a whole request
// or an answer do not count before the first byte.
func TestAdoptedWaitsAsLongAsAnIdleConnection(t *testing.T) {
	for name, srv := range map[string]*http.Server{
		"ReadHeaderTimeout": {ReadHeaderTimeout: short},
		"ReadTimeout":       {ReadTimeout: short, IdleTimeout: long},
		"both":              {ReadTimeout: short, ReadHeaderTimeout: short / 2, IdleTimeout: long},
		"WriteTimeout":      {WriteTimeout: short, IdleTimeout: long},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv.Handler = echo
			s := serveAdopted(t, srv)
			c := s.dial()
			s.until("it is here", func() bool { return s.Status().New == 1 })
			for _, path := range []string{"/one", "/two"} {
				<-time.After(5 * short) // longer than every limit that must not count yet
				c.quiet()
				wantBody(t, c.get(path), path, false)
			}
			c.Close()
			s.stop()
			s.clean()
		})
	}
}

// An adopted connection ends when an idle connection would end, and the server writes nothing on it.
func TestAdoptedEndsAsAnIdleConnection(t *testing.T) {
	for name, srv := range map[string]*http.Server{
		"IdleTimeout":              {IdleTimeout: short, ReadTimeout: long, ReadHeaderTimeout: long},
		"ReadTimeout in its place": {ReadTimeout: short},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv.Handler = echo
			s := serveAdopted(t, srv)
			c := s.dial()
			c.closed()
			s.stop()
			s.clean()
		})
	}
}

// On an adopted connection, the limits of the first request count from its first byte.
func TestAdoptedRequestHasItsLimits(t *testing.T) {
	for name, c := range map[string]struct {
		srv  *http.Server
		text string
	}{
		"header":         {&http.Server{ReadHeaderTimeout: short, IdleTimeout: long}, "GET / HTTP/1.1\r\nHos"},
		"first byte":     {&http.Server{ReadHeaderTimeout: short, IdleTimeout: long}, "G"},
		"whole request":  {&http.Server{ReadTimeout: short, IdleTimeout: long}, "GET / HTTP/1.1\r\nHos"},
		"body":           {&http.Server{ReadTimeout: short, IdleTimeout: long}, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo"},
		"second request": {&http.Server{ReadHeaderTimeout: short, IdleTimeout: long}, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHos"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.srv.Handler = echo
			s := serveAdopted(t, c.srv)
			client := s.dial()
			s.until("it is here", func() bool { return s.Status().New == 1 })
			<-time.After(3 * short) // longer than the limit, which counts only from the first byte
			began := time.Now()
			client.send(c.text)
			for {
				if _, err := client.read(); err != nil {
					break
				}
			}
			if took := time.Since(began); took < short/2 || took > patience/2 {
				t.Errorf("it ended after %v, want about %v", took, short)
			}
			s.stop()
			s.clean()
		})
	}
}

// Before a program uses the socket of an adopted connection in a way that the other process does not notice, the server calls
// Own. Bytes that came with the connection are read first.
func TestNothingIsDonePastAnAdoptedConnection(t *testing.T) {
	read := func(do func(b []byte) (int, error)) error {
		b := make([]byte, 10)
		n, err := do(b)
		if err == nil && string(b[:n]) != "came" {
			err = fmt.Errorf("%q is read", b[:n])
		}
		return err
	}
	for name, c := range map[string]struct {
		network string
		do      func(nc net.Conn) error
	}{
		"File": {"tcp", func(nc net.Conn) error {
			f, err := nc.(interface{ File() (*os.File, error) }).File()
			f.Close()
			return err
		}},
		"SetLinger":   {"tcp", func(nc net.Conn) error { return nc.(interface{ SetLinger(int) error }).SetLinger(5) }},
		"SyscallConn": {"unix", func(nc net.Conn) error { _, err := nc.(syscall.Conn).SyscallConn(); return err }},
		"ReadFrom": {"unix", func(nc net.Conn) error {
			return read(func(b []byte) (n int, err error) { n, _, err = nc.(net.PacketConn).ReadFrom(b); return n, err })
		}},
		"ReadMsgUnix": {"unix", func(nc net.Conn) error {
			return read(func(b []byte) (n int, err error) { n, _, _, _, err = nc.(message).ReadMsgUnix(b, nil); return n, err })
		}},
		"WriteMsgUnix": {"unix", func(nc net.Conn) error { _, _, err := nc.(message).WriteMsgUnix([]byte("x"), nil, nil); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			s := prepare(t, &http.Server{}, drain.Options{})
			ln := listenOn(t, c.network)
			l := &adoptedListener{Listener: ln, ahead: "came"}
			done := make(chan error, 1)
			s.run(func(ctx context.Context) error {
				return s.ServeTCP(ctx, l, func(_ context.Context, nc net.Conn) { done <- c.do(nc) })
			})
			client := dialTo(t, ln.Addr())
			if err := <-done; err != nil || l.owned.Load() == 0 {
				t.Errorf("%v, made this process's own %d times", err, l.owned.Load())
			}
			client.Close()
			s.stop()
			s.clean()
		})
	}
}

// message has the methods of a unix connection that pass descriptors.
type message interface {
	ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
	WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error)
}
