package drain_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// patience is how long a test waits at most for something that must happen.
const patience = 30 * time.Second

var discardLog = log.New(io.Discard, "", 0)

// upgraded is the cause of a context that ends because another process goes on serving.
type upgraded struct{}

func (upgraded) Error() string  { return "upgraded" }
func (upgraded) Handover() bool { return true }

// A service is a drain.Server that serves a real socket until the test ends it.
type service struct {
	*drain.Server
	t    testing.TB
	http *http.Server
	addr string
	end  context.CancelCauseFunc
	done chan error
}

// serve starts a service on a free port. prepare sets the loggers and IdleGrace if they are not set.
func serve(t testing.TB, srv *http.Server, opts drain.Options) *service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, ln, srv, opts)
}

func serveOn(t testing.TB, ln net.Listener, srv *http.Server, opts drain.Options) *service {
	t.Helper()
	s := prepare(t, srv, opts)
	s.addr = ln.Addr().String()
	s.run(func(ctx context.Context) error { return s.Serve(ctx, ln) })
	return s
}

func prepare(t testing.TB, srv *http.Server, opts drain.Options) *service {
	if srv.ErrorLog == nil {
		srv.ErrorLog = discardLog
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.IdleGrace == 0 { // for silent connections too: otherwise a test on a slow machine could lose them after 0.8 seconds
		opts.IdleGrace = 5 * time.Second
	}
	return &service{Server: drain.NewServer(srv, opts), t: t, http: srv, done: make(chan error, 1)}
}

// startTLS serves TLS with the certificate of the http.Server.
func (s *service) startTLS() {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	s.run(func(ctx context.Context) error { return s.ServeTLS(ctx, ln, "", "") })
}

func (s *service) run(serve func(context.Context) error) {
	ctx, end := context.WithCancelCause(context.Background())
	s.end = end
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		s.done <- serve(ctx)
	}()
	s.t.Cleanup(func() {
		end(nil)
		s.http.Close()
		select { // after a failed test, something may be open until Grace runs out
		case <-returned:
		case <-time.After(patience):
			s.t.Errorf("Serve has not returned: %+v", s.Entries())
		}
	})
}

// stop begins a plain stop, and handOver begins a handover. Both return when the drain has begun.
func (s *service) stop()     { s.begin(nil) }
func (s *service) handOver() { s.begin(upgraded{}) }

func (s *service) begin(cause error) {
	s.t.Helper()
	s.end(cause)
	s.until("the drain has begun", func() bool { return s.Status().Phase != drain.Serving })
}

// until waits for a condition.
func (s *service) until(what string, ok func() bool) {
	s.t.Helper()
	until(s.t, what, ok)
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// wait returns what Serve returned.
func (s *service) wait() error {
	s.t.Helper()
	select {
	case err := <-s.done:
		return err
	case <-time.After(patience):
		s.t.Fatalf("Serve has not returned after %v: %+v", patience, s.Status())
		return nil
	}
}

// clean waits for Serve and wants nil.
func (s *service) clean() {
	s.t.Helper()
	if err := s.wait(); err != nil {
		s.t.Errorf("Serve = %v, want nil", err)
	}
}

// open reports that Serve has not returned yet.
func (s *service) open() {
	s.t.Helper()
	select {
	case err := <-s.done:
		s.t.Fatalf("Serve returned %v too early", err)
	default:
	}
}

// A client is a connection that does only what the test asks: it never retries.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (s *service) dial() *client {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return newClient(s.t, nc)
}

func (s *service) dialTLS(protos ...string) *client {
	s.t.Helper()
	nc, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
	if err != nil {
		s.t.Fatal(err)
	}
	return newClient(s.t, nc)
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	c := newClientUnbound(nc)
	c.t = t
	return c
}

// newClientUnbound makes a client for which only read may be called.
func newClientUnbound(nc net.Conn) *client {
	return &client{Conn: nc, r: bufio.NewReader(nc)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// An answer is a response that was read to its end.
type answer struct {
	status int
	body   string
	header http.Header
	close  bool
}

func (c *client) answer() answer {
	c.t.Helper()
	a, err := c.read()
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	return a
}

func (c *client) read() (answer, error) {
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	return answer{res.StatusCode, string(body), res.Header, res.Close}, err
}

func (c *client) get(path string) answer {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
	return c.answer()
}

// closed fails the test unless the next event on the connection is an orderly end. Then it closes the side of the client.
func (c *client) closed() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err != io.EOF {
		c.t.Fatalf("read %q, %v; want EOF", b, err)
	}
	c.Close()
}

// ends is like closed, but there may be more bytes before the end.
func (c *client) ends() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c.r); err != nil {
		c.t.Fatalf("read: %v; want EOF", err)
	}
	c.Close()
}

// quiet fails the test if bytes or an end have arrived.
func (c *client) quiet() {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	defer c.SetReadDeadline(time.Now().Add(patience))
	var ne net.Error
	if _, err := c.r.Peek(1); !errors.As(err, &ne) || !ne.Timeout() {
		c.t.Fatalf("peek: %v, want a timeout", err)
	}
}

// echo answers with the body of the request, or its path.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if len(body) == 0 {
		body = []byte(r.URL.Path)
	}
	w.Write(body)
})

// probe asks for the readiness.
func probe(s *service) (status int, header http.Header) {
	w := httptest.NewRecorder()
	s.Readiness().ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	return w.Code, w.Result().Header
}

// A gate is a handler whose requests wait until the channel open is closed.
type gate struct {
	entered chan string
	open    chan struct{}
}

func newGate() *gate { return &gate{make(chan string, 100), make(chan struct{})} }

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.entered <- r.URL.Path
	<-g.open
	echo(w, r)
}

// certificate returns a TLS configuration with a certificate that no client checks.
func certificate(t testing.TB) *tls.Config {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}
}

func wantBody(t testing.TB, a answer, body string, closes bool) {
	t.Helper()
	if a.status != http.StatusOK || a.body != body || a.close != closes {
		if len(a.body) > 100 {
			a.body = a.body[:100] + "…"
		}
		t.Errorf("answer %d %q close=%v, want 200 %.100q close=%v", a.status, a.body, a.close, body, closes)
	}
}

func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not contain %q", text, p)
		}
	}
}

// tlsListener gives *tls.Conn.
func tlsListener(t testing.TB) net.Listener {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
