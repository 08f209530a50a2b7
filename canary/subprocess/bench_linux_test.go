package subprocess_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/midair-go/midair/canary/subprocess"
)

func init() {
	programs["bench"] = func() { serve(http.HandlerFunc(sized)) }
	programs["bench-http"] = func() { listen(os.Args[2]) }
	programs["bench-grpc"] = func() {
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: bare, Plugins: plugin.PluginSet{"none": none{}}, GRPCServer: plugin.DefaultGRPCServer, Logger: hclog.NewNullLogger(),
		})
	}
}

var large = bytes.Repeat([]byte("0123456789abcdef"), 64<<10/16)

// sized answers with a few bytes, or with 64 KiB.
func sized(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.URL.Path == "/small" {
		io.WriteString(w, "a small answer")
		return
	}
	w.Header().Set("Content-Length", "65536")
	w.Write(large)
}

// listen serves sized on a unix socket, and an echo of 256 bytes on another one, until the standard input ends.
func listen(path string) {
	requests, err := net.Listen("unix", path)
	echo, err2 := net.Listen("unix", path+".echo")
	if err != nil || err2 != nil {
		os.Exit(1)
	}
	go http.Serve(requests, http.HandlerFunc(sized)) // ends with the process
	go func() {                                      // ends with the process
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 256)) // ends with the connection
		}
	}()
	os.Stdout.WriteString("serves\n")
	io.Copy(io.Discard, os.Stdin)
}

// bare is for a plugin of go-plugin that has nothing but the health service of every plugin.
var bare = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "BARE", MagicCookieValue: "plugin"}

type none struct{ plugin.NetRPCUnsupportedPlugin }

func (none) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (none) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

// reverseProxy returns a proxy of the standard library to sized in another process, and the socket of an echo.
func reverseProxy(t testing.TB) (h http.Handler, echo string) {
	path := shortDir(t) + "/http"
	cmd := exec.Command(os.Args[0], "bench-http", path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
		DisableCompression: true, MaxIdleConnsPerHost: 1 << 10,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "subprocess"}) }, Transport: transport,
	}, path + ".echo"
}

// passing returns the Handler of a program of the tests.
func passing(t testing.TB, name string, args ...string) *subprocess.Handler {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	h, err := subprocess.Start(context.Background(), subprocess.Options{Dir: shortDir(t) + "/s", Logger: quiet, Cmd: func() *exec.Cmd {
		cmd := program(name, args...)()
		cmd.Stderr = null
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
		return cmd
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// discard is the writer of an answer that noLog reads.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Flush()                      {}

// ask returns a function that sends a request of a browser to h.
func ask(t testing.TB, h http.Handler, method, path string) func() {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host, r.RequestURI, r.RemoteAddr, r.Proto = "shop.example", path, "192.0.2.1:1234", "HTTP/1.1"
	for _, line := range [][2]string{
		{"Accept", "text/html"}, {"Accept-Encoding", "gzip"}, {"Accept-Language", "en"}, {"User-Agent", "Mozilla/5.0"}, {"Cookie", "session=0123456789abcdef"},
	} {
		r.Header.Set(line[0], line[1])
	}
	w := &discard{header: http.Header{}}
	return func() {
		clear(w.header)
		if h.ServeHTTP(w, r); w.header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("status %d, header %v", w.status, w.header)
		}
	}
}

// BenchmarkForward is a request to a handler in another process: through a Handler, and through the proxy of the standard
// library. Beside them are the same handler in this process, a call of go-plugin without arguments, and an echo of 256 bytes on a
// unix socket. A POST costs one more message than a GET: the status 102, by which the process announces that the request begins.
func BenchmarkForward(b *testing.B) {
	proxy, echo := reverseProxy(b)
	handler := passing(b, "bench")
	for _, way := range []struct {
		name string
		h    http.Handler
	}{{"direct", http.HandlerFunc(sized)}, {"Handler", handler}, {"ReverseProxy", proxy}} {
		for _, path := range []string{"/small", "/large"} {
			b.Run(way.name+path, func(b *testing.B) { repeat(b, func() func() { return ask(b, way.h, "GET", path) }) })
		}
	}
	b.Run("Handler/post", func(b *testing.B) { repeat(b, func() func() { return ask(b, handler, "POST", "/small") }) })
	b.Run("go-plugin", func(b *testing.B) {
		call := pluginCall(b)
		repeat(b, func() func() { return call })
	})
	b.Run("echo", func(b *testing.B) { repeat(b, func() func() { return echoCall(b, echo) }) })
}

// repeat measures a function, by one goroutine and by as many as there are processors.
func repeat(b *testing.B, newCall func() func()) {
	b.Run("serial", func(b *testing.B) {
		call := newCall()
		b.ReportAllocs()
		for b.Loop() {
			call()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			call := newCall()
			for pb.Next() {
				call()
			}
		})
	})
}

// pluginCall returns a unary call of a plugin over gRPC.
func pluginCall(t testing.TB) func() {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: bare, Plugins: plugin.PluginSet{"none": none{}}, Cmd: program("bench-grpc")(), Logger: hclog.NewNullLogger(),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
	})
	t.Cleanup(client.Kill)
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := protocol.Ping(); err != nil {
			t.Error(err)
		}
	}
}

// echoCall returns a round trip on a unix socket, which is the least that another process costs.
func echoCall(t testing.TB, path string) func() {
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	buf := make([]byte, 256)
	return func() {
		c.Write(buf)
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Error(err)
		}
	}
}

// A request costs no more than through the proxy of the standard library. The medians of rounds that take turns are compared,
// with a margin, as the machine does other things too.
func TestPassingOnCostsNoMoreThanAReverseProxy(t *testing.T) {
	proxy, _ := reverseProxy(t)
	for _, path := range []string{"/small", "/large"} {
		ours, theirs := ask(t, passing(t, "bench"), "GET", path), ask(t, proxy, "GET", path)
		const rounds, each = 15, 100
		var times [2][]time.Duration
		for range rounds {
			for i, call := range []func(){ours, theirs} {
				begin := time.Now()
				for range each {
					call()
				}
				times[i] = append(times[i], time.Since(begin)/each)
			}
		}
		slices.Sort(times[0])
		slices.Sort(times[1])
		a, b := times[0][rounds/2], times[1][rounds/2]
		t.Logf("%s: %v, and %v through the proxy", path, a, b)
		if float64(a) > 1.3*float64(b) {
			t.Errorf("%s: a request takes %v, and %v through the proxy", path, a, b)
		}
	}
}

// A request allocates less than half of what the proxy of the standard library does.
func TestPassingOnAllocatesLessThanAReverseProxy(t *testing.T) {
	proxy, _ := reverseProxy(t)
	for _, path := range []string{"/small", "/large"} {
		ours, theirs := testing.AllocsPerRun(200, ask(t, passing(t, "bench"), "GET", path)), testing.AllocsPerRun(200, ask(t, proxy, "GET", path))
		t.Logf("%s: %v allocations, and %v through the proxy", path, ours, theirs)
		if ours > theirs/2 {
			t.Errorf("%s: a request costs %v allocations, and %v through the proxy", path, ours, theirs)
		}
	}
}
