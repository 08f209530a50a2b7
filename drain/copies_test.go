package drain_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// tunnel copies in both directions. If a side cannot be half-closed, the end of either direction ends the whole tunnel.
func tunnel(a, b net.Conn) {
	ah, ok1 := a.(halves)
	bh, ok2 := b.(halves)
	end := make(chan struct{}, 2)
	pipe := func(dst, src net.Conn, dh, sh halves) {
		io.Copy(dst, src)
		if ok1 && ok2 {
			sh.CloseRead()
			dh.CloseWrite()
		}
		end <- struct{}{}
	}
	go pipe(a, b, ah, bh)
	go pipe(b, a, bh, ah)
	<-end
	if ok1 && ok2 {
		<-end
	}
}

// If one side of a tunnel of a CONNECT proxy ends its direction, the other direction goes on, in a drain and before. The
// registry counts the bytes as they pass, and the drain waits for the end of the tunnel.
func TestTunnelsPassOnHalfCloses(t *testing.T) {
	for network := range networks {
		for upstream := range networks {
			for _, draining := range []bool{false, true} {
				for _, first := range []string{"client", "server"} {
					t.Run(fmt.Sprintf("%s to %s, drain %v, %s first", network, upstream, draining, first), func(t *testing.T) {
						tunnelThrough(t, network, upstream, draining, first == "client")
					})
				}
			}
		}
	}
}

func tunnelThrough(t *testing.T, network, upstream string, draining, clientFirst bool) {
	target := listenOn(t, upstream)
	defer target.Close()
	ln := listenOn(t, network)
	s := serveOn(t, ln, &http.Server{Handler: connect}, drain.Options{Grace: time.Hour})
	c := dialTo(t, ln.Addr())
	head := fmt.Sprintf("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nNetwork: %s\r\nTo: %s\r\n\r\n", upstream, target.Addr())
	c.send(head)
	nc, err := target.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far := newClient(t, nc)
	c.r.ReadString('\n')
	c.r.ReadString('\n')
	if draining {
		s.handOver()
		s.until("it drains", func() bool { return s.Status().Phase == drain.Draining })
	}
	asks, answers := c, far
	if !clientFirst {
		asks, answers = far, c
	}
	asks.send("question")
	asks.Conn.(halves).CloseWrite()
	if got, err := io.ReadAll(answers.r); err != nil || string(got) != "question" {
		t.Fatalf("asked %q, %v", got, err)
	}
	e := s.Entries()
	if len(e) != 1 || e[0].State != "hijacked" {
		t.Fatalf("entries %+v", e)
	}
	answers.send("the answer")
	if got, err := bufio.NewReader(io.LimitReader(asks.r, 10)).ReadString('r'); err != nil {
		t.Fatalf("answered %q, %v", got, err)
	}
	read, written := int64(len(head)+len("question")), int64(len("HTTP/1.1 200 OK\r\n\r\n")+len("the answer"))
	if !clientFirst {
		read, written = int64(len(head)+len("the answer")), int64(len("HTTP/1.1 200 OK\r\n\r\n")+len("question"))
	}
	// From TCP to a unix socket on Linux, package net copies in one part, so the bytes are counted only at the end.
	if network != "tcp" || upstream != "unix" || runtime.GOOS != "linux" {
		s.until("the bytes are counted", func() bool {
			e := s.Entries()
			return len(e) == 1 && e[0].Read == read && e[0].Written == written
		})
	}
	answers.Conn.(halves).CloseWrite()
	asks.ends()
	answers.Close()
	s.until("it has left the registry", func() bool { return len(s.Entries()) == 0 })
	if !draining {
		s.stop()
	}
	s.clean()
}

// A raw connection whose bytes the kernel copies is in use as long as bytes pass in either direction. After that it ends, and
// its copy returns without an error.
func TestSplicedRawConnectionsEndInASilence(t *testing.T) {
	const silence = 300 * time.Millisecond
	for _, talks := range []string{"client", "server", "both"} {
		t.Run(talks, func(t *testing.T) {
			target := listenOn(t, "tcp")
			defer target.Close()
			copied := make(chan error, 1)
			s := serveRaw(t, drain.Options{IdleGrace: silence, Grace: time.Hour}, func(_ context.Context, nc net.Conn) {
				up, err := net.Dial("tcp", target.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				defer up.Close()
				go io.Copy(nc, up) // ends with up
				_, err = io.Copy(up, nc)
				copied <- err
			})
			c := s.dial()
			nc, err := target.Accept()
			if err != nil {
				t.Fatal(err)
			}
			far := newClient(t, nc)
			s.handOver()
			tick := time.NewTicker(silence / 20)
			defer tick.Stop()
			for since := time.Now(); time.Since(since) < 3*silence; <-tick.C {
				if talks != "server" {
					c.send("x")
					if _, err := far.r.ReadByte(); err != nil {
						t.Fatalf("after %v: %v", time.Since(since), err)
					}
				}
				if talks != "client" {
					far.send("x")
					if _, err := c.r.ReadByte(); err != nil {
						t.Fatalf("after %v: %v", time.Since(since), err)
					}
				}
			}
			if err := <-copied; err != nil {
				t.Errorf("the copy ended with %v", err)
			}
			far.Close()
			c.closed()
			s.clean()
		})
	}
}

// The kernel copies what package net lets it copy. As a proof, the client takes nothing: the goroutine of the copy then waits
// inside of sendfile or splice.
func TestCopiesAreMadeByTheKernel(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("splice is of Linux")
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	opened := func() *os.File {
		f, err := os.Open(big)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	// source is a connection from which many bytes can be read.
	source := func(network string) net.Conn {
		ln := listenOn(t, network)
		t.Cleanup(func() { ln.Close() })
		nc := dialTo(t, ln.Addr())
		give, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { give.Close() })
		go io.Copy(give, opened()) // ends with the connection
		return nc.Conn
	}
	for name, c := range map[string]struct {
		frame string
		copy  func(nc net.Conn) error
	}{
		"a file":           {"internal/poll.SendFile(", func(nc net.Conn) error { _, err := io.Copy(nc, opened()); return err }},
		"a part of a file": {"internal/poll.SendFile(", func(nc net.Conn) error { _, err := io.CopyN(nc, opened(), 60<<20); return err }},
		"TCP":              {"internal/poll.Splice(", func(nc net.Conn) error { _, err := io.Copy(nc, source("tcp")); return err }},
		"a part of TCP":    {"internal/poll.Splice(", func(nc net.Conn) error { _, err := io.CopyN(nc, source("tcp"), 60<<20); return err }},
		"a unix socket":    {"internal/poll.Splice(", func(nc net.Conn) error { _, err := io.Copy(nc, source("unix")); return err }},
	} {
		for _, way := range []string{"raw", "hijacked"} {
			t.Run(name+" to "+way, func(t *testing.T) {
				done := make(chan struct{})
				do := func(nc net.Conn) { defer close(done); defer nc.Close(); c.copy(nc) }
				s, ln := prepare(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if nc, _, err := http.NewResponseController(w).Hijack(); err == nil {
						do(nc)
					}
				})}, drain.Options{}), listenOn(t, "tcp")
				s.run(func(ctx context.Context) error {
					if way == "raw" {
						return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) { do(nc) })
					}
					return s.Serve(ctx, ln)
				})
				cl := dialTo(t, ln.Addr())
				cl.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				until(t, "the kernel copies", func() bool { return stands(c.frame, ".do") || stands(c.frame, "TestCopiesAreMadeByTheKernel") })
				cl.Close()
				<-done
				s.stop()
				s.clean()
			})
		}
	}
}

// stands reports whether there is a goroutine whose stack has both functions.
func stands(inner, outer string) bool {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, inner) && strings.Contains(g, outer) && strings.Contains(g, "drain.(*") {
			return true
		}
	}
	return false
}

// The bytes of a file that are copied to a connection are counted, by whatever method io.Copy lets the kernel copy.
func TestFilesAreCounted(t *testing.T) {
	const size = 100_000
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	for network := range networks {
		for _, raw := range []bool{false, true} {
			t.Run(fmt.Sprint(network, ", raw ", raw), func(t *testing.T) {
				on := make(chan struct{})
				give := func(nc net.Conn) {
					f, err := os.Open(name)
					if err != nil {
						t.Error(err)
						return
					}
					defer f.Close()
					if n, err := io.Copy(nc, f); n != size || err != nil {
						t.Errorf("copied %d, %v", n, err)
					}
					<-on
				}
				s, ln := prepare(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if nc, _, err := http.NewResponseController(w).Hijack(); err == nil {
						defer nc.Close()
						give(nc)
					}
				})}, drain.Options{}), listenOn(t, network)
				s.run(func(ctx context.Context) error {
					if raw {
						return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) { give(nc) })
					}
					return s.Serve(ctx, ln)
				})
				c := dialTo(t, ln.Addr())
				if !raw {
					c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				}
				if _, err := io.CopyN(io.Discard, c.r, size); err != nil {
					t.Fatal(err)
				}
				s.until("they are counted", func() bool { e := s.Entries(); return len(e) == 1 && e[0].Written == size })
				close(on)
				c.ends()
				s.stop()
				s.clean()
			})
		}
	}
}

// A copy with a limit takes exactly the bytes of the limit from a file or a connection, in however many parts the kernel
// copies.
func TestPartsAreCopiedExactly(t *testing.T) {
	const size, part = 9 << 20, 5<<20 + 1
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	opened := func() io.ReadCloser {
		f, err := os.Open(name)
		if err != nil {
			t.Error(err)
		}
		return f
	}
	target := listenOn(t, "tcp")
	defer target.Close()
	for name, source := range map[string]func() io.ReadCloser{
		"a file": opened,
		"a connection": func() io.ReadCloser {
			up := dialTo(t, target.Addr()).Conn
			nc, err := target.Accept()
			if err != nil {
				t.Error(err)
				return up
			}
			go func() { defer nc.Close(); nc.Write(make([]byte, size)) }() // ends with up
			return up
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveRaw(t, drain.Options{}, func(_ context.Context, nc net.Conn) {
				from := source()
				defer from.Close()
				if n, err := io.CopyN(nc, from, part); n != part || err != nil {
					t.Errorf("copied %d, %v; want %d", n, err, part)
				}
				if n, err := io.Copy(io.Discard, from); n != size-part || err != nil {
					t.Errorf("%d were left, %v; want %d", n, err, size-part)
				}
			})
			c := s.dial()
			if n, err := io.Copy(io.Discard, c.r); n != part || err != nil {
				t.Errorf("the client got %d, %v; want %d", n, err, part)
			}
			c.Close()
			s.stop()
			s.clean()
		})
	}
}
