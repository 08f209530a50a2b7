package subprocess_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

// socket is a handler that switches to a protocol of lines, which it sends back, and does what some of them say.
func socket(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "lines" || r.Header.Get("Connection") != "Upgrade" {
		http.Error(w, "no upgrade", http.StatusBadRequest)
		return
	}
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\nX-Own: 1\r\n\r\nhello\n")
	for {
		line, err := buffered.ReadString('\n')
		switch {
		case err == io.EOF:
			io.WriteString(c, "you have ended\n")
			return
		case err != nil || line == "close\n":
			return
		case line == "end\n":
			c.(*net.UnixConn).CloseWrite()
		case line == "kill\n":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		default:
			io.WriteString(c, line)
		}
	}
}

// dialSocket returns a connection that has switched.
func dialSocket(t testing.TB, srv *httptest.Server) (*net.TCPConn, *bufio.Reader) {
	nc, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	io.WriteString(nc, "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nearly\n")
	in := bufio.NewReader(nc)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if h := res.Header; res.StatusCode != 101 || h.Get("Upgrade") != "lines" || h.Get("Connection") != "Upgrade" || h.Get("X-Own") != "1" || len(h) != 3 {
		t.Fatalf("%v", res)
	}
	expect(t, in, "hello\n", "early\n")
	return nc.(*net.TCPConn), in
}

func expect(t testing.TB, in *bufio.Reader, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if got, err := in.ReadString('\n'); got != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
}

func ended(t testing.TB, in *bufio.Reader) {
	t.Helper()
	if b, err := in.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Fatalf("%q, %v", b, err)
	}
}

func idle(t testing.TB, h *subprocess.Handler) {
	t.Helper()
	testutil.Until(t, patience, "the host has ended the request", func() bool { return h.Status().InFlight == 0 })
}

// A connection that has switched to another protocol goes through the process, and each side learns how the other one ends it.
func TestSwitchedConnectionsGoThrough(t *testing.T) {
	h := passing(t, "streams")
	srv := front(t, h)
	for name, talk := range map[string]func(t *testing.T, c *net.TCPConn, in *bufio.Reader){
		"both": func(t *testing.T, c *net.TCPConn, in *bufio.Reader) {
			for _, line := range []string{"a\n", strings.Repeat("b", 1<<20) + "\n", "c\n"} {
				go io.WriteString(c, line) // ends when the line is sent
				expect(t, in, line)
			}
			c.Close()
		},
		"the client says no more": func(t *testing.T, c *net.TCPConn, in *bufio.Reader) {
			c.CloseWrite()
			expect(t, in, "you have ended\n")
			ended(t, in)
		},
		"the handler says no more": func(t *testing.T, c *net.TCPConn, in *bufio.Reader) {
			io.WriteString(c, "end\n")
			ended(t, in)
			if h.Status().InFlight != 1 {
				t.Error("the handler can read no more")
			}
			io.WriteString(c, "close\n")
		},
		"the handler closes": func(t *testing.T, c *net.TCPConn, in *bufio.Reader) {
			io.WriteString(c, "close\n")
			ended(t, in)
		},
		"the process is killed": func(t *testing.T, c *net.TCPConn, in *bufio.Reader) {
			io.WriteString(c, "kill\n")
			ended(t, in)
			testutil.Until(t, patience, "another process serves", func() bool { return h.Status().Starts == 2 && h.Status().PID != 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, in := dialSocket(t, srv)
			talk(t, c, in)
			idle(t, h)
		})
	}
}

// A client that says that its request for another protocol has a body, and sends more and more, gets no second reader of its
// connection: the host would end.
func TestBodyOfASwitchingRequestIsReadOnce(t *testing.T) {
	h := passing(t, "streams")
	srv := front(t, h)
	for _, length := range []string{"Content-Length: 1073741824\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n40000000\r\n"} {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: lines\r\n"+length)
		go io.Copy(io.Discard, c) // ends with the connection
		for range 256 {
			if _, err := io.WriteString(c, strings.Repeat("line\n", 32<<10)); err != nil {
				break
			}
		}
		c.Close()
		idle(t, h)
	}
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "POST /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: lines\r\nContent-Length: 5\r\n\r\nbody\nmore\n")
	in := bufio.NewReader(c)
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	expect(t, in, "hello\n", "body\n", "more\n")
}
