package drain_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// BenchmarkCopy compares the time of a copy to or through a connection with the time of the same copy by package net. Both are
// measured in one run, and the metric drain/net is the ratio of the two times. Small means short messages back and forth
// through a tunnel.
func BenchmarkCopy(b *testing.B) {
	const size = 32 << 20
	big := filepath.Join(b.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	sendfile := func(nc net.Conn) {
		f, err := os.Open(big)
		if err != nil {
			b.Error(err)
			return
		}
		defer f.Close()
		io.Copy(nc, f)
	}
	asked := func(nc net.Conn) {
		io.ReadFull(nc, make([]byte, 1))
		sendfile(nc)
	}
	source := listenOn(b, "tcp")
	defer source.Close()
	go func() { // ends with its listener
		for {
			nc, err := source.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				ask := make([]byte, 1)
				for n, _ := nc.Read(ask); n == 1 && ask[0] == 'p'; n, _ = nc.Read(ask) {
					nc.Write(ask)
				}
				if ask[0] == 'b' {
					sendfile(nc)
				}
			}()
		}
	}()
	proxy := func(nc net.Conn) {
		up, err := net.Dial("tcp", source.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer up.Close()
		go func() { io.Copy(up, nc); up.(halves).CloseWrite() }() // ends with nc
		io.Copy(nc, up)
	}
	bulk := func(c net.Conn) {
		io.WriteString(c, "b")
		if n, err := io.Copy(struct{ io.Writer }{io.Discard}, c); n != size {
			b.Errorf("%d bytes, %v", n, err)
		}
	}
	small := func(c net.Conn) {
		for buf := make([]byte, 1); buf[0] < 200; buf[0]++ {
			for range 10 {
				io.WriteString(c, "p")
				io.ReadFull(c, make([]byte, 1))
			}
		}
	}
	for name, way := range map[string]struct {
		serve func(net.Conn)
		use   func(net.Conn)
	}{"sendfile": {asked, bulk}, "tunnel, bulk": {proxy, bulk}, "tunnel, small": {proxy, small}} {
		for _, kind := range []string{"raw", "hijacked"} {
			b.Run(name+"/"+kind, func(b *testing.B) { besideNet(b, kind, way.serve, way.use) })
		}
	}
}

// besideNet uses a connection of package net and a connection of a drain.Server in turns.
func besideNet(b *testing.B, kind string, serve, use func(net.Conn)) {
	plain := listenOn(b, "tcp")
	defer plain.Close()
	go func() { // ends with its listener
		for {
			nc, err := plain.Accept()
			if err != nil {
				return
			}
			go func() { defer nc.Close(); serve(nc) }()
		}
	}()
	hijack := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if nc, _, err := http.NewResponseController(w).Hijack(); err == nil {
			defer nc.Close()
			io.WriteString(nc, "ready")
			serve(nc)
		}
	})
	s, ln := prepare(b, &http.Server{Handler: hijack}, drain.Options{}), listenOn(b, "tcp")
	s.run(func(ctx context.Context) error {
		if kind == "raw" {
			return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) { serve(nc) })
		}
		return s.Serve(ctx, ln)
	})
	dial := func(a net.Addr, ask bool) net.Conn {
		nc, err := net.Dial("tcp", a.String())
		if err != nil {
			b.Fatal(err)
		}
		if ask {
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			io.ReadFull(nc, make([]byte, len("ready")))
		}
		return nc
	}
	var without, with time.Duration
	timed := func(total *time.Duration, nc net.Conn) {
		since := time.Now()
		use(nc)
		*total += time.Since(since)
		nc.Close()
	}
	for b.Loop() {
		timed(&without, dial(plain.Addr(), false))
		timed(&with, dial(ln.Addr(), kind != "raw"))
	}
	b.ReportMetric(float64(with)/float64(without), "drain/net")
	s.stop()
	s.clean()
}
