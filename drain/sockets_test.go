package drain_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// networks are those whose connections have types of their own in package net.
var networks = map[string]reflect.Type{"tcp": reflect.TypeFor[*net.TCPConn](), "unix": reflect.TypeFor[*net.UnixConn]()}

// listenOn listens on an address of its own.
func listenOn(t testing.TB, network string) net.Listener {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func dialTo(t testing.TB, a net.Addr) *client {
	t.Helper()
	nc, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

// hasAll wants each exported method of net's type, with the same parameters and results.
func hasAll(t *testing.T, got net.Conn, want reflect.Type) {
	t.Helper()
	for i := range want.NumMethod() {
		name := want.Method(i).Name
		has, asks := reflect.ValueOf(got).MethodByName(name), reflect.Zero(want).Method(i)
		switch {
		case !has.IsValid():
			t.Errorf("%T has no method %s", got, name)
		case has.Type() != asks.Type():
			t.Errorf("%s of %T is %v, want %v", name, got, has.Type(), asks.Type())
		}
	}
}

// hijacking gives what Hijack does, and closes it.
func hijacking(to chan<- net.Conn) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			to <- nc
			nc.Close()
		}
	})
}

// What a program is given has every exported method of net's connection, whichever way it is given.
func TestProgramsGetEveryMethodOfNet(t *testing.T) {
	const ask = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	ways := map[string]struct {
		ask string
		run func(s *service, ln net.Listener, to chan<- net.Conn)
	}{
		"Hijack": {ask, func(s *service, ln net.Listener, to chan<- net.Conn) {
			s.http.Handler = hijacking(to)
			s.run(func(ctx context.Context) error { return s.Serve(ctx, ln) })
		}},
		"Hijack of a WebSocket": {askWebSocket, func(s *service, ln net.Listener, to chan<- net.Conn) {
			s.http.Handler = hijacking(to)
			s.run(func(ctx context.Context) error { return s.Serve(ctx, ln) })
		}},
		"ConnContext": {ask, func(s *service, ln net.Listener, to chan<- net.Conn) {
			s.http.ConnContext = func(ctx context.Context, nc net.Conn) context.Context { to <- nc; return ctx }
			s.run(func(ctx context.Context) error { return s.Serve(ctx, ln) })
		}},
		"ConnState": {ask, func(s *service, ln net.Listener, to chan<- net.Conn) {
			s.http.ConnState = func(nc net.Conn, state http.ConnState) {
				if state == http.StateNew {
					to <- nc
				}
			}
			s.run(func(ctx context.Context) error { return s.Serve(ctx, ln) })
		}},
		"ServeTCP": {ask, func(s *service, ln net.Listener, to chan<- net.Conn) {
			s.run(func(ctx context.Context) error {
				return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) { to <- nc })
			})
		}},
		"ServeFunc": {ask, func(s *service, ln net.Listener, to chan<- net.Conn) {
			s.run(func(ctx context.Context) error {
				return s.ServeFunc(ctx, ln, "x", func(l net.Listener) error {
					for {
						nc, err := l.Accept()
						if err != nil {
							return err
						}
						to <- nc
						nc.Close()
					}
				})
			})
		}},
	}
	for network, of := range networks {
		for name, way := range ways {
			for _, moved := range []bool{false, true} { // from another process
				t.Run(fmt.Sprintf("%s %s moved=%v", network, name, moved), func(t *testing.T) {
					s, ln, given := prepare(t, &http.Server{Handler: echo}, drain.Options{}), listenOn(t, network), make(chan net.Conn, 1)
					addr := ln.Addr()
					if moved {
						ln = &adoptedListener{Listener: ln}
					}
					way.run(s, ln, given)
					c := dialTo(t, addr)
					io.WriteString(c, way.ask) // some have closed it
					nc := <-given
					if hasAll(t, nc, of); strings.HasPrefix(name, "Conn") && reflect.TypeOf(nc) != of {
						t.Errorf("a %T", nc)
					}
					c.Close()
					s.stop()
					s.clean()
				})
			}
		}
	}
}

// halves is what a proxy asks of both sides before it passes half-closes on, as elazarl/goproxy does.
type halves interface {
	CloseRead() error
	CloseWrite() error
}

// connect is a CONNECT proxy.
var connect = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	network := "tcp"
	if r.Header.Get("Network") != "" {
		network = r.Header.Get("Network")
	}
	up, err := net.Dial(network, r.Header.Get("To"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	tunnel(c, up)
})

// tunnel copies both ways. Without halves on both sides it ends as a whole.
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

// A tunnel of a CONNECT proxy goes on in the other direction after either side has ended its own, whether a drain has begun
// or not. The registry counts its bytes as they pass, and the drain waits for its end.
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
	if network != "tcp" || upstream != "unix" || runtime.GOOS != "linux" { // there package net tells of the bytes at the end
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

// After SetLinger(0) a Close resets the connection, in a drain as well: an answer that was cut must not look complete.
func TestAbortsResetInADrain(t *testing.T) {
	for name, raw := range map[string]bool{"raw": true, "hijacked": false} {
		t.Run(name, func(t *testing.T) {
			abort := func(nc net.Conn) {
				io.WriteString(nc, "half an ans")
				if err := nc.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
					t.Error(err)
				}
				nc.Close()
			}
			at, on := make(chan struct{}), make(chan struct{})
			s := prepare(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if nc, _, err := http.NewResponseController(w).Hijack(); err == nil {
					at <- struct{}{}
					<-on
					abort(nc)
				}
			})}, drain.Options{})
			ln := listenOn(t, "tcp")
			s.run(func(ctx context.Context) error {
				if !raw {
					return s.Serve(ctx, ln)
				}
				return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) {
					at <- struct{}{}
					<-on
					abort(nc)
				})
			})
			c := dialTo(t, ln.Addr())
			if !raw {
				c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			}
			<-at
			s.handOver()
			close(on)
			if _, err := io.Copy(io.Discard, c.r); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client read %v, want a reset", err)
			}
			s.clean()
		})
	}
}

// After SetLinger with seconds, or with less than zero, a Close is no reset any more, though the client has sent more.
func TestAbortsAreTakenBack(t *testing.T) {
	for _, sec := range []int{-1, 5} {
		closed := make(chan struct{})
		s := serveRaw(t, drain.Options{}, func(_ context.Context, nc net.Conn) {
			defer close(closed)
			for _, sec := range []int{0, sec} {
				if err := nc.(interface{ SetLinger(int) error }).SetLinger(sec); err != nil {
					t.Error(err)
				}
			}
			io.CopyN(io.Discard, nc, 1)
			io.WriteString(nc, "answer")
			nc.Close()
		})
		c := s.dial()
		c.send("more than is read")
		<-closed
		if got, err := io.ReadAll(c.r); err != nil || string(got) != "answer" {
			t.Errorf("after SetLinger(%d) the client read %q, %v", sec, got, err)
		}
		c.Close()
		s.stop()
		s.clean()
	}
}

// What File returned goes on after the Close of the connection, in a drain as well, as with package net.
func TestFilesOutliveTheirConnection(t *testing.T) {
	for network := range networks {
		t.Run(network, func(t *testing.T) {
			files := make(chan *os.File, 1)
			s, ln := prepare(t, &http.Server{}, drain.Options{}), listenOn(t, network)
			s.run(func(ctx context.Context) error {
				return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) {
					f, err := nc.(interface{ File() (*os.File, error) }).File()
					if err != nil {
						t.Error(err)
					}
					files <- f
				})
			})
			c := dialTo(t, ln.Addr())
			f := <-files
			s.handOver()
			s.clean()
			io.WriteString(f, "on")
			f.Close()
			if got, err := io.ReadAll(c.r); err != nil || string(got) != "on" {
				t.Errorf("the client read %q, %v", got, err)
			}
		})
	}
}

// What File returned goes on when Grace has run out as well: no step of the escalation is for the socket itself.
func TestFilesOutliveGrace(t *testing.T) {
	for network := range networks {
		t.Run(network, func(t *testing.T) {
			files, on := make(chan *os.File, 1), make(chan struct{})
			s, ln := prepare(t, &http.Server{}, drain.Options{Grace: 50 * time.Millisecond}), listenOn(t, network)
			s.run(func(ctx context.Context) error {
				return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) {
					f, err := nc.(interface{ File() (*os.File, error) }).File()
					if err != nil {
						t.Error(err)
					}
					files <- f
					<-on
				})
			})
			c := dialTo(t, ln.Addr())
			f := <-files
			s.handOver()
			var timeout *drain.TimeoutError
			if err := s.wait(); !errors.As(err, &timeout) || len(timeout.Left) != 1 || timeout.Left[0].Action != "closed" {
				t.Errorf("Serve = %v", err)
			}
			close(on)
			io.WriteString(f, "on")
			f.Close()
			if got, err := io.ReadAll(c.r); err != nil || string(got) != "on" {
				t.Errorf("the client read %q, %v", got, err)
			}
		})
	}
}

// Bytes that the client sends after CloseRead do not destroy an answer that is on its way (F5).
func TestAnswersSurviveCloseRead(t *testing.T) {
	s := serveRaw(t, drain.Options{}, deafAnswer)
	c := s.dial()
	s.until("the answer is on its way", func() bool { e := s.Entries(); return len(e) == 1 && e[0].State == "closing" })
	c.send("unread")
	s.handOver()
	c.send("unread")
	if n, err := io.Copy(io.Discard, c.r); n != 4<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	c.Close()
	s.clean()
}

// A raw connection whose bytes the kernel copies is in use while something is said in either direction, and then ends: its
// copy with an end, not with an error.
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

// A program that waits by the descriptor of a raw connection is not interrupted while something is said, and gets an end
// after a silence.
func TestWaitsByTheDescriptorEndInASilence(t *testing.T) {
	got := make(chan error, 1)
	s := serveRaw(t, drain.Options{IdleGrace: 50 * time.Millisecond}, func(_ context.Context, nc net.Conn) {
		raw, err := nc.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Error(err)
			return
		}
		got <- raw.Read(func(uintptr) bool { return false })
	})
	c := s.dial()
	s.until("accepted", func() bool { return len(s.Entries()) == 1 })
	s.handOver()
	if err := <-got; err != io.EOF {
		t.Errorf("the wait ended with %v", err)
	}
	c.closed()
	s.clean()
}

// The kernel copies what package net lets it copy: a goroutine that waits for a client which takes nothing stands in its
// sendfile or splice.
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
	// source is a connection that has much to give.
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

// stands reports whether a goroutine is inside both functions.
func stands(inner, outer string) bool {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, inner) && strings.Contains(g, outer) && strings.Contains(g, "drain.(*") {
			return true
		}
	}
	return false
}

// The bytes of a file that are copied to a connection are counted, whichever way io.Copy finds to the kernel.
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

// A copy of a part takes exactly that from a file and from a connection, however many steps the kernel makes of it.
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
