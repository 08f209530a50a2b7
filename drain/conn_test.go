package drain_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// A wrapping listener wraps each connection, as the listeners of many services do.
type wrapping struct {
	net.Listener
	wrap func(*net.TCPConn) net.Conn
}

func (l wrapping) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(nc.(*net.TCPConn)), nil
}

// serveWrapped starts a service whose connections are wrapped.
func serveWrapped(t testing.TB, h http.Handler, opts drain.Options, wrap func(*net.TCPConn) net.Conn) *service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, wrapping{ln, wrap}, &http.Server{Handler: h}, opts)
}

// A raceConn makes a request arrive after a Read was interrupted and before the server decides whether to close the connection.
type raceConn struct {
	*net.TCPConn
	interrupted chan struct{} // a Read has ended without a result
	arrive      atomic.Value  // a func() that makes the request arrive
	once        sync.Once
}

func (c *raceConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if err != nil && err != io.EOF {
		c.interrupted <- struct{}{}
	}
	return n, err
}

func (c *raceConn) SetReadDeadline(t time.Time) error {
	err := c.TCPConn.SetReadDeadline(t)
	if arrive, ok := c.arrive.Load().(func()); ok && !t.IsZero() && t.Before(time.Now()) {
		c.once.Do(func() { <-c.interrupted; arrive() })
	}
	return err
}

// A request that arrives after the Read was interrupted and before the server decides to close is answered.
func TestDrainAnswersTheRequestThatMeetsItsDecision(t *testing.T) {
	conns := make(chan *raceConn, 1)
	s := serveWrapped(t, echo, drain.Options{IdleGrace: time.Nanosecond, Grace: time.Hour}, func(c *net.TCPConn) net.Conn {
		rc := &raceConn{TCPConn: c, interrupted: make(chan struct{}, 100)}
		conns <- rc
		return rc
	})
	c := s.dial()
	rc := <-conns
	wantBody(t, c.get("/one"), "/one", false)
	s.until("idle", func() bool { return s.Status().Idle == 1 })
	for len(rc.interrupted) > 0 { // net/http interrupts the Read that waits in the background while a handler runs
		<-rc.interrupted
	}
	rc.arrive.Store(func() {
		c.send("GET /just HTTP/1.1\r\nHost: x\r\n\r\n")
		until(t, "it has arrived", func() bool { return sockbuf.Queued(rc.TCPConn) })
	})
	s.handOver()
	a, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	wantBody(t, a, "/just", true)
	c.closed()
	s.clean()
}

// A tunnelConn is a connection with a TLS stack that net/http does not know.
type tunnelConn struct{ *net.TCPConn }

func (tunnelConn) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{ServerName: "tunnel", HandshakeComplete: true}
}

// If the connection of the listener has a method ConnectionState, the wrapper has this method too.
func TestDrainKeepsAForeignTLSState(t *testing.T) {
	s := serveWrapped(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.ServerName)
	}), drain.Options{IdleGrace: time.Nanosecond, Move: func(net.Conn) bool { t.Error("it was offered"); return false }},
		func(c *net.TCPConn) net.Conn { return tunnelConn{c} })
	c := s.dial()
	wantBody(t, c.get("/"), "tunnel", false)
	s.handOver()
	c.closed()
	s.clean()
}

// A plainConn has nothing but the methods of net.Conn.
type plainConn struct{ net.Conn }

// A drain also ends connections that are no sockets, although it cannot ask the kernel for their bytes.
func TestDrainWithConnectionsThatAreNoSockets(t *testing.T) {
	s := serveWrapped(t, hijack, drain.Options{}, func(c *net.TCPConn) net.Conn { return plainConn{c} })
	c := s.dial()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nhello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	s.handOver()
	s.clean()
}

// A stickyConn repeats the first error of a Read for ever. Some wrappers that first read a header of their own do so.
type stickyConn struct {
	net.Conn
	err error
}

func (c *stickyConn) Read(p []byte) (n int, err error) {
	if c.err == nil {
		n, c.err = c.Conn.Read(p)
	}
	return n, c.err
}

// A connection that perhaps does not survive an interruption is not interrupted before it is due, and is not offered to Move.
func TestDrainInterruptsNoReadOfAWrapperEarly(t *testing.T) {
	s := serveWrapped(t, echo, drain.Options{
		IdleGrace: time.Hour, Grace: 10 * time.Hour,
		Move: func(nc net.Conn) bool { t.Errorf("offered %T", nc); return false },
	}, func(c *net.TCPConn) net.Conn { return &stickyConn{Conn: c} })
	c := s.dial()
	s.until("accepted", func() bool { return s.Status().New == 1 })
	s.handOver()
	c.quiet()
	wantBody(t, c.get("/late"), "/late", true)
	c.closed()
	s.clean()
}

// If net/http copies to a connection without a ReadFrom, the copy uses buffers of a pool.
func TestConnectionsWithoutReadFromTakeNoBufferOfTheirOwn(t *testing.T) {
	s := serveWrapped(t, echo, drain.Options{}, func(c *net.TCPConn) net.Conn { return plainConn{c} })
	c := s.dial()
	go io.Copy(io.Discard, c)
	s.until("accepted", func() bool { return s.Status().New == 1 })
	to := drain.Conns(s.Server)[0].(io.ReaderFrom)
	from := &io.LimitedReader{R: zeros{}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		from.N = 100_000
		if n, err := to.ReadFrom(from); n != 100_000 || err != nil {
			t.Fatalf("ReadFrom = %d, %v", n, err)
		}
	}
	runtime.ReadMemStats(&after)
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 50*(32<<10) {
		t.Errorf("%d bytes for 100 copies", bytes)
	}
	c.Close()
	s.stop()
	s.clean()
}

// A copyConn counts what net/http lets the kernel copy.
type copyConn struct {
	*net.TCPConn
	copied *atomic.Int64
}

func (c copyConn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(r)
	c.copied.Add(n)
	return n, err
}

// Files are sent by the kernel, as without drain: the connection below gets the file itself.
func TestFilesAreCopiedByTheKernel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	var copied atomic.Int64
	s := serveWrapped(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }),
		drain.Options{}, func(c *net.TCPConn) net.Conn { return copyConn{c, &copied} })
	c := s.dial()
	a := c.get("/")
	c.Close()
	s.handOver()
	s.clean()
	if len(a.body) != 100_000 || copied.Load() < 90_000 {
		t.Errorf("%d bytes, %d of them copied", len(a.body), copied.Load())
	}
}

// An HTTP/2 connection without TLS drains, whether or not it has had a stream.
func TestDrainWithUnencryptedHTTP2(t *testing.T) {
	srv := &http.Server{Handler: echo, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	s := serve(t, srv, drain.Options{IdleGrace: time.Millisecond, Move: func(net.Conn) bool { return false }})
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://" + s.addr + "/h2c")
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); res.ProtoMajor != 2 || string(body) != "/h2c" {
		t.Errorf("%s %q", res.Proto, body)
	}
	res.Body.Close()
	unused, silent, h1 := s.dial(), s.dial(), s.dial()
	unused.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	wantBody(t, h1.get("/h1"), "/h1", false)
	s.until("all here", func() bool { st := s.Status(); return st.Idle == 3 && st.New == 1 })
	s.handOver()
	unused.ends()
	silent.closed()
	h1.closed()
	s.clean()
}

// After a connection has moved, every use of it by its old server fails.
func TestAMovedConnectionIsLeftAlone(t *testing.T) {
	kept := make(chan net.Conn, 1)
	s := serve(t, &http.Server{Handler: echo}, drain.Options{Move: func(nc net.Conn) bool { kept <- nc; return true }})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	s.until("idle", func() bool { return s.Status().Idle == 1 })
	all := drain.Conns(s.Server)
	s.handOver()
	nc := <-kept
	s.clean()
	for _, old := range all {
		if n, err := old.Write([]byte("x")); n != 0 || err == nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		if n, err := old.(io.ReaderFrom).ReadFrom(zeros{}); n != 0 || err == nil {
			t.Errorf("ReadFrom = %d, %v", n, err)
		}
		if n, err := old.(io.WriterTo).WriteTo(io.Discard); n != 0 || err != io.EOF {
			t.Errorf("WriteTo = %d, %v", n, err)
		}
		if _, err := old.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read: %v", err)
		}
		if old.SetDeadline(time.Now()) == nil || old.SetReadDeadline(time.Now()) == nil || old.SetWriteDeadline(time.Now()) == nil {
			t.Error("a deadline was set")
		}
		if err := old.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	c.quiet()
	if _, err := io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmoved"); err != nil {
		t.Fatal(err)
	}
	wantBody(t, c.answer(), "moved", false)
	c.send("more")
	if n, err := nc.Read(make([]byte, 10)); n != 4 || err != nil {
		t.Errorf("Move got a connection that reads %d, %v", n, err)
	}
	nc.Close()
	c.closed()
}
