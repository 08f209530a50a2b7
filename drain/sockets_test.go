package drain_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// networks are the networks for whose connections package drain has a wrapper type of its own.
var networks = map[string]reflect.Type{"tcp": reflect.TypeFor[*net.TCPConn](), "unix": reflect.TypeFor[*net.UnixConn]()}

// listenOn listens on a new address of the network.
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

// hasAll fails the test if got lacks an exported method of the type of package net, or has other parameters or results.
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

// hijacking passes the connection of Hijack to the test, and closes the connection.
func hijacking(to chan<- net.Conn) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			to <- nc
			nc.Close()
		}
	})
}

// Each connection that a program gets has every exported method of the type of package net, in whatever way the program gets
// it.
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

// A proxy such as elazarl/goproxy passes half closes on only if both sides have the methods of halves.
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

// After SetLinger with a number of seconds or a negative number, a Close does not reset the connection any more, although the
// client has sent more bytes.
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

// The file that File has returned can still be used after the Close of the connection, as with package net, in a drain too.
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

// The file that File has returned can still be used after Grace has run out: no step of the escalation ends the socket itself.
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

// A program that waits by the descriptor of a raw connection is not interrupted while bytes pass. After a silence it gets
// io.EOF.
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
