package testutil_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// newServer starts an HTTP server and returns its address.
func newServer(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// newRawServer starts a server that gives each connection to serve, after it has read the first request, and closes
// it afterwards.
func newRawServer(t testing.TB, serve func(c *net.TCPConn, br *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { // until the listener is closed
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				br := bufio.NewReader(c)
				if _, err := http.ReadRequest(br); err == nil {
					serve(c.(*net.TCPConn), br)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		running.Wait()
	})
	return ln.Addr().String()
}

// runUntil runs a load until it has done n requests.
func runUntil(t testing.TB, n int, opts testutil.LoadOptions) *testutil.Report {
	t.Helper()
	l := testutil.StartLoad(t, opts)
	testutil.Until(t, patience, fmt.Sprintf("%d requests", n), func() bool { return l.Total() >= n })
	return l.Stop()
}

// A request that fails is recorded with the way in which it failed.
func TestLoadClassifiesFailures(t *testing.T) {
	for _, tt := range []struct {
		want  testutil.Outcome
		serve func(c *net.TCPConn, br *bufio.Reader)
	}{
		{testutil.NoResponse, func(c *net.TCPConn, br *bufio.Reader) {}},
		{testutil.Reset, func(c *net.TCPConn, br *bufio.Reader) { c.SetLinger(0) }},
		{testutil.Partial, func(c *net.TCPConn, br *bufio.Reader) { io.WriteString(c, "HTT") }},
		{testutil.Partial, func(c *net.TCPConn, br *bufio.Reader) { io.WriteString(c, "HTTP/1.1 200 OK\r\nServer: x\r\n") }},
		{testutil.Partial, func(c *net.TCPConn, br *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab")
		}},
		{testutil.Partial, func(c *net.TCPConn, br *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
		}},
		{testutil.Malformed, func(c *net.TCPConn, br *bufio.Reader) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n") }},
		{testutil.BadStatus, func(c *net.TCPConn, br *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}},
		{testutil.TimedOut, func(c *net.TCPConn, br *bufio.Reader) { io.Copy(io.Discard, br) }},
	} {
		t.Run(tt.want.String(), func(t *testing.T) {
			opts := testutil.LoadOptions{Addr: newRawServer(t, tt.serve), KeepAlive: 1, Timeout: patience}
			if tt.want == testutil.TimedOut {
				opts.Timeout = 20 * time.Millisecond
			}
			mustFailWith(t, runUntil(t, 3, opts), tt.want)
		})
	}
}

func mustFailWith(t *testing.T, r *testutil.Report, want testutil.Outcome) {
	t.Helper()
	if r.Counts[want] != r.Total || len(r.Failed) != r.Total {
		t.Errorf("want %d times %s: %s", r.Total, want, r)
	}
	for _, f := range r.Failed {
		if f.Err == "" || f.End.Before(f.Start) || f.ID == "" {
			t.Errorf("incomplete record: %s", f)
		}
		if lost := want != testutil.BadStatus && want != testutil.DialRefused && want != testutil.DialFailed; lost != strings.HasPrefix(f.From(), "127.0.0.1:") {
			t.Errorf("its connection was from %q: %s", f.From(), f)
		}
	}
}

// A connection that cannot be opened is recorded, refusals apart from the rest.
func TestLoadClassifiesDials(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for _, tt := range []struct {
		network, addr string
		want          testutil.Outcome
	}{
		{"tcp", ln.Addr().String(), testutil.DialRefused},
		{"unix", filepath.Join(t.TempDir(), "missing"), testutil.DialRefused},
		{"unix", "/" + strings.Repeat("x", 200), testutil.DialFailed},
	} {
		t.Run(tt.network, func(t *testing.T) {
			r := runUntil(t, 3, testutil.LoadOptions{Network: tt.network, Addr: tt.addr, KeepAlive: 1, New: 1})
			mustFailWith(t, r, tt.want)
		})
	}
}

// A request that the server does not read is a failed write.
func TestLoadClassifiesWrites(t *testing.T) {
	addr := newRawServer(t, func(c *net.TCPConn, br *bufio.Reader) { c.SetLinger(0) })
	r := runUntil(t, 1, testutil.LoadOptions{Addr: addr, KeepAlive: 1, Body: 32 << 20})
	mustFailWith(t, r, testutil.WriteFailed)
}

// The client sends each id once, whatever happens to the request.
func TestLoadNeverRetries(t *testing.T) {
	var seen sync.Map
	var again atomic.Int64
	addr := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if _, ok := seen.LoadOrStore(r.Header.Get("X-Request-Id"), true); ok {
			again.Add(1)
		}
		if r.Method != "POST" {
			t.Errorf("method %s, want POST", r.Method)
		}
		if strings.HasSuffix(r.Header.Get("X-Request-Id"), "3") {
			panic(http.ErrAbortHandler)
		}
	})
	r := runUntil(t, 200, testutil.LoadOptions{Addr: addr, KeepAlive: 3, New: 1})
	if n := again.Load(); n > 0 {
		t.Errorf("%d requests came again", n)
	}
	if r.Counts[testutil.NoResponse] == 0 || r.Counts[testutil.OK]+r.Counts[testutil.NoResponse] != r.Total {
		t.Errorf("want answers and aborted requests: %s", r)
	}
}

// A client sees that the server has closed its connection while it was idle, and does not use it.
func TestLoadNoticesIdleClose(t *testing.T) {
	addr := newRawServer(t, func(c *net.TCPConn, br *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	r := runUntil(t, 3, testutil.LoadOptions{Addr: addr, KeepAlive: 1, Think: 30 * time.Millisecond})
	if len(r.Failed) > 0 || r.IdleClosed < 2 || r.Dials < 3 || r.Announced > 0 {
		t.Errorf("want connections closed while idle: %s", r)
	}
}

// A client leaves a connection whose end the server has announced.
func TestLoadObeysConnectionClose(t *testing.T) {
	addr := newServer(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") })
	r := runUntil(t, 10, testutil.LoadOptions{Addr: addr, KeepAlive: 1})
	if len(r.Failed) > 0 || r.Announced != r.Total || r.Dials != r.Total || r.IdleClosed > 0 {
		t.Errorf("want a connection for each request: %s", r)
	}
}

// A connection with bytes that nobody has asked for is not used again.
func TestLoadLeavesStrayBytes(t *testing.T) {
	addr := newRawServer(t, func(c *net.TCPConn, br *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, br)
	})
	r := runUntil(t, 3, testutil.LoadOptions{Addr: addr, KeepAlive: 1})
	if len(r.Failed) > 0 || r.Stray < 2 || r.Dials < 3 {
		t.Errorf("want stray bytes: %s", r)
	}
}

// A kept connection serves all requests of a client, a new one only one, over TCP and unix sockets.
func TestLoadKeepsConnections(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.NotFoundHandler()}}
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, _ := io.Copy(w, r.Body); n != 100 || r.Header.Get("Cookie") != "a=b" {
			t.Errorf("body of %d bytes, cookie %q", n, r.Header.Get("Cookie"))
		}
	})
	s.Start()
	defer s.Close()
	opts := testutil.LoadOptions{Network: "unix", Addr: ln.Addr().String(), Body: 100, Header: "Cookie: a=b\r\n"}
	kept, fresh := opts, opts
	kept.KeepAlive, fresh.New = 3, 2
	if r := runUntil(t, 100, kept); len(r.Failed) > 0 || r.Dials < 1 || r.Dials > 3 { // a client may not have begun
		t.Errorf("want a connection for each client, 3 at most: %s", r)
	}
	if r := runUntil(t, 100, fresh); len(r.Failed) > 0 || r.Dials != r.Total || r.Announced > 0 {
		t.Errorf("want a connection for each request: %s", r)
	}
}

// Every n-th request of a client goes to the slow path, and percentiles leave those out.
func TestLoadMixesSlowRequests(t *testing.T) {
	var slow, fast atomic.Int64
	addr := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			slow.Add(1)
			<-time.After(50 * time.Millisecond)
		} else if r.URL.Path == "/work" {
			fast.Add(1)
		}
	})
	r := runUntil(t, 20, testutil.LoadOptions{Addr: addr, KeepAlive: 1, SlowEvery: 5})
	n := int64(r.Total)
	if slow.Load() != n/5 || fast.Load() != n-n/5 {
		t.Errorf("%d fast and %d slow of %d requests", fast.Load(), slow.Load(), n)
	}
	for rec := range r.Records() {
		if took := rec.End.Sub(rec.Start); rec.Slow && took < 50*time.Millisecond {
			t.Errorf("slow request took %v: %s", took, rec)
		}
	}
}

// A paced load keeps to its schedule and counts the time that a request had to wait for its turn.
func TestPacedLoadCountsWaiting(t *testing.T) {
	var first sync.Once
	addr := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		first.Do(func() { <-time.After(300 * time.Millisecond) })
	})
	l := testutil.StartLoad(t, testutil.LoadOptions{Addr: addr, KeepAlive: 1, Rate: 100})
	testutil.Until(t, patience, "40 requests", func() bool { return l.Total() >= 40 })
	r := l.Stop()
	if most := int(r.End.Sub(r.Begin).Seconds()*100) + 1; r.Total > most {
		t.Errorf("%d requests, want at most %d", r.Total, most)
	}
	n := 0
	for rec := range r.Records() {
		due := r.Begin.Add(time.Duration(n) * 10 * time.Millisecond)
		if d := rec.Start.Sub(due).Abs(); d > time.Millisecond {
			t.Errorf("request %d is scheduled %v beside its time", n, d)
		}
		if took := rec.End.Sub(rec.Start); n > 0 && n < 20 && took < 100*time.Millisecond {
			t.Errorf("request %d behind the slow one took %v", n, took)
		}
		n++
	}
}

// Answers are counted by the version and the process that gave them, and a running load knows who has answered.
func TestLoadCountsVersions(t *testing.T) {
	var second atomic.Bool
	addr := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if second.Load() {
			w.Header().Set("X-Version", "v2")
			w.Header().Set("X-Pid", "22")
			return
		}
		w.Header().Set("X-Version", "v1")
		w.Header().Set("X-Pid", "11")
	})
	l := testutil.StartLoad(t, testutil.LoadOptions{Addr: addr, KeepAlive: 2, New: 1})
	testutil.Until(t, patience, "v1", func() bool { return l.Seen("v1") })
	if l.Seen("v2") {
		t.Error("v2 has answered before its time")
	}
	switched := time.Now()
	second.Store(true)
	testutil.Until(t, patience, "v2", func() bool { return l.Seen("v2") })
	r := l.Stop()
	if r.ByVersion["v1"] != r.ByPID[11] || r.ByVersion["v2"] != r.ByPID[22] || r.ByPID[11]+r.ByPID[22] != r.Total {
		t.Errorf("answers by version %v, by process %v: %s", r.ByVersion, r.ByPID, r)
	}
	if first := r.FirstAnswer("v2"); first.Before(switched) || first.After(r.End) {
		t.Errorf("first answer of v2 at %v, switched at %v", first, switched)
	}
	if r != l.Stop() {
		t.Error("a second Stop gives another report")
	}
}

// A load without address or clients is refused.
func TestLoadNeedsAddressAndClients(t *testing.T) {
	for _, opts := range []testutil.LoadOptions{{}, {Addr: "x"}, {KeepAlive: 1}, {Addr: "x", New: -1, KeepAlive: 1}} {
		if _, err := testutil.NewLoad(opts); err == nil {
			t.Errorf("%+v is accepted", opts)
		}
	}
}

// A client takes next to nothing from the servers that it shares the machine with.
func TestLoadDoesNotAllocate(t *testing.T) {
	addr := newRawServer(t, func(c *net.TCPConn, br *bufio.Reader) {
		answer, rest := []byte("HTTP/1.1 200 OK\r\nX-Version: v1\r\nContent-Length: 2\r\n\r\nok"), make([]byte, 4096)
		for n, err := 1, error(nil); n > 0 && err == nil; n, err = c.Read(rest) {
			c.Write(answer)
		}
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := runUntil(t, 5000, testutil.LoadOptions{Addr: addr, KeepAlive: 2})
	runtime.ReadMemStats(&after)
	if perRequest := float64(after.Mallocs-before.Mallocs) / float64(r.Total); perRequest > 0.5 {
		t.Errorf("%.2f allocations a request", perRequest)
	}
}

func BenchmarkLoad(b *testing.B) {
	addr := newServer(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Version", "v1")
		w.Header().Set("X-Pid", "17")
		w.Write([]byte("ok"))
	})
	for name, opts := range map[string]testutil.LoadOptions{
		"KeepAlive": {Addr: addr, KeepAlive: 32},
		"New":       {Addr: addr, New: 32},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			l := testutil.StartLoad(b, opts)
			testutil.Until(b, time.Minute, "requests", func() bool { return l.Total() >= b.N })
			r := l.Stop()
			b.ReportMetric(float64(r.Total)/r.End.Sub(r.Begin).Seconds(), "req/s")
			if len(r.Failed) > 0 {
				b.Error(r)
			}
		})
	}
}
