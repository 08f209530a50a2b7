package subprocess

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
)

// A fake is what a process does with its connections.
type fake struct {
	net.Listener
	path string
}

func newFake(t testing.TB) *fake {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fake{path: dir + "/http"}
	f.listen(t)
	return f
}

func (f *fake) listen(t testing.TB) {
	ln, err := net.Listen("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	f.Listener = ln
	t.Cleanup(func() { ln.Close() })
}

// host returns a server with a router, whose canary passes requests on to the fake, and whose stable handler answers with the body.
func (f *fake) host(t testing.TB) *httptest.Server {
	opts := Options{Logger: slog.New(slog.DiscardHandler)}
	in := &instance{child: &child{cmd: &exec.Cmd{}, ended: make(chan struct{})}, opts: &opts}
	in.conns.socket = f.path
	stable := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "stable %d bytes %v", len(b), err)
	})
	srv := httptest.NewServer(canary.NewRouter(stable, in, canary.Options{
		Weight: canary.Fixed(1), Logger: opts.Logger, Rescue: &canary.Rescue{Unserved: true},
	}))
	t.Cleanup(func() {
		srv.Close()
		in.conns.close()
	})
	return srv
}

// post sends a body of 9 bytes, with its length or in chunks, and returns the answer.
func post(t testing.TB, srv *httptest.Server, chunked bool) string {
	t.Helper()
	var body io.Reader = strings.NewReader("some body")
	if chunked {
		body = io.MultiReader(body)
	}
	return ask(t, srv, "POST", body)
}

func ask(t testing.TB, srv *httptest.Server, method string, body io.Reader) string {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), method, srv.URL, body)
	res, err := srv.Client().Do(r)
	if err != nil {
		return "no answer"
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return fmt.Sprint(res.StatusCode, " ", string(b))
}

// once accepts a connection, reads one request without a body, and answers it. It leaves the connection open.
func (f *fake) once(t testing.TB) net.Conn {
	c, err := f.Accept()
	if err != nil {
		t.Error(err)
		return nil
	}
	if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
		t.Error(err)
	}
	io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary")
	return c
}

const (
	byStable = "200 stable 9 bytes <nil>"
	byNobody = "502 the handler is not available\n"
)

// begins is what a process sends before the handler gets a request with the method POST.
const begins = "HTTP/1.1 102 Processing\r\n\r\n"

// A request is called unserved, so that the stable handler answers it with its whole body, only if the handler in the process has not
// got it.
func TestOnlyWhatHasNotBegunIsUnserved(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		f := newFake(t)
		srv := f.host(t)
		accepted := make(chan net.Conn, 1)
		go func() { accepted <- f.once(t) }() // ends with the request
		if got := ask(t, srv, "GET", nil); got != "200 canary" {
			t.Fatal(got)
		}
		(<-accepted).Close()
		go func() { accepted <- f.once(t) }() // the process lives: a new connection is used
		if got := post(t, srv, chunked); got != "200 canary" {
			t.Errorf("after the end of an idle connection: %s", got)
		}
		(<-accepted).Close()
		go func() { accepted <- f.once(t) }()
		ask(t, srv, "GET", nil)
		f.Close()
		(<-accepted).Close()
		for range 2 { // with an idle connection, and without
			if got := post(t, srv, chunked); got != byStable {
				t.Errorf("the process has ended: %s", got)
			}
		}
		for _, row := range []struct {
			reads  int
			says   string
			answer string
		}{{1, "", byStable}, {100, "", byStable}, {100, begins[:20], byStable}, {100, begins, byNobody}, {100, begins + "HTTP/1.1 200 OK\r\n", byNobody}} {
			f.listen(t)
			ln := f.Listener
			go func() { // ends with the connection
				c, err := ln.Accept()
				if err != nil {
					return
				}
				io.ReadFull(c, make([]byte, row.reads))
				io.WriteString(c, row.says)
				ln.Close()
				c.Close()
			}()
			if got := post(t, srv, chunked); got != row.answer {
				t.Errorf("the process has ended after %d bytes and %q: %s", row.reads, row.says, got)
			}
		}
	}
}

// A process that ends in the middle of a body has begun the request.
func TestHalfOfABodyIsServed(t *testing.T) {
	f := newFake(t)
	srv := f.host(t)
	go func() { // ends with the connection
		c, err := f.Accept()
		if err != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err == nil {
			io.WriteString(c, begins)
			io.ReadFull(r.Body, make([]byte, 4))
		}
		f.Close()
		c.Close()
	}()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome") // the rest never comes
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != http.StatusBadGateway || !res.Close {
		t.Errorf("%v, %v", res, err)
	}
}

// A header that never ends does not fill the memory of the host.
func TestEndlessHeaderIsRefused(t *testing.T) {
	f := newFake(t)
	srv := f.host(t)
	go func() { // ends when the host has closed the connection
		c, err := f.Accept()
		if err != nil {
			return
		}
		f.Close()
		defer c.Close()
		io.WriteString(c, begins+"HTTP/1.1 200 OK\r\n")
		for err == nil {
			_, err = io.WriteString(c, "X-A: "+strings.Repeat("a", 64<<10)+"\r\n")
		}
	}()
	if got := post(t, srv, false); got != byNobody {
		t.Error(got)
	}
}

// Idle connections are closed after a time, and when there are too many, but not the one that is put back.
func TestIdleConnectionsAreFew(t *testing.T) {
	f := newFake(t)
	p := &conns{socket: f.path}
	defer p.close()
	r := httptest.NewRequest("GET", "/", nil)
	var taken []*conn
	for range maxIdle + 1 {
		c, err := p.send(r)
		if err != nil {
			t.Fatal(err)
		}
		other, err := f.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		taken = append(taken, c)
	}
	for _, c := range taken {
		p.put(c)
	}
	if n := len(p.idle); n != maxIdle || taken[0].SetDeadline(time.Time{}) == nil {
		t.Errorf("%d connections are kept", n)
	}
	c := p.take()
	c.stop = func() bool { return true }
	p.idle[0].idle = time.Now().Add(-2 * idleTime)
	p.put(c)
	if n := len(p.idle); n != maxIdle-1 || p.take() != c {
		t.Errorf("%d connections are kept", n)
	}
	c.Close()
}

// A process that ends while the host writes a long header has not begun the request.
func TestHalfOfAHeaderIsUnserved(t *testing.T) {
	f := newFake(t)
	srv := f.host(t)
	go func() { // ends with the connection
		c, err := f.Accept()
		if err != nil {
			return
		}
		io.ReadFull(c, make([]byte, 100<<10))
		f.Close()
		c.Close()
	}()
	r, _ := http.NewRequestWithContext(t.Context(), "POST", srv.URL, strings.NewReader("some body"))
	r.Header.Set("Long", strings.Repeat("a", 900<<10)) // more than fits into the socket
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "stable 9 bytes <nil>" {
		t.Errorf("%d %s", res.StatusCode, b)
	}
}
