package drain_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/internal/netconn"
)

// The connections that Hijack and ServeTCP give tell who the peer of a unix socket is, by the descriptor and by a message.
func TestUnixSocketsTellTheirPeer(t *testing.T) {
	for _, raw := range []bool{false, true} {
		asked := make(chan struct{})
		who := func(nc net.Conn) {
			defer close(asked)
			rc, err := nc.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Error(err)
				return
			}
			var cred *syscall.Ucred
			rc.Control(func(fd uintptr) {
				cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1)
			})
			if err != nil || int(cred.Pid) != os.Getpid() {
				t.Errorf("the peer is %+v, %v", cred, err)
			}
			nc.Write([]byte("say"))
			buf, oob := make([]byte, 10), make([]byte, 100)
			n, oobn, _, _, err := nc.(interface {
				ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
			}).ReadMsgUnix(buf, oob)
			if err != nil || string(buf[:n]) != "hello" || oobn == 0 {
				t.Errorf("got %q with %d bytes beside it, %v", buf[:n], oobn, err)
			}
		}
		s, ln := prepare(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if nc, _, err := http.NewResponseController(w).Hijack(); err == nil {
				defer nc.Close()
				who(nc)
			}
		})}, drain.Options{}), listenOn(t, "unix")
		s.run(func(ctx context.Context) error {
			if raw {
				return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) { who(nc) })
			}
			return s.Serve(ctx, ln)
		})
		c := dialTo(t, ln.Addr())
		if !raw {
			c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		c.r.Discard(len("say"))
		c.send("hello")
		<-asked
		c.Close()
		s.stop()
		s.clean()
	}
}

// A raw connection is in use as long as a slow client takes bytes, although the copy or the Write does not end for a long time.
// If the client takes nothing, the connection is silent.
func TestSlowClientsOfRawConnectionsAreNotSilent(t *testing.T) {
	const size, silence = 16 << 20, 500 * time.Millisecond
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	target := listenOn(t, "tcp")
	defer target.Close()
	go func() { // ends with its listener
		for {
			nc, err := target.Accept()
			if err != nil {
				return
			}
			go func() { defer nc.Close(); nc.Write(make([]byte, size)) }() // ends with the connection
		}
	}()
	for name, give := range map[string]func(nc net.Conn) error{
		"Write": func(nc net.Conn) error { _, err := nc.Write(make([]byte, size)); return err },
		"file": func(nc net.Conn) error {
			f, err := os.Open(name)
			if err == nil {
				defer f.Close()
				_, err = io.Copy(nc, f)
			}
			return err
		},
		"splice": func(nc net.Conn) error {
			up, err := net.Dial("tcp", target.Addr().String())
			if err == nil {
				defer up.Close()
				_, err = io.Copy(nc, up)
			}
			return err
		},
	} {
		for _, takes := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, takes %v", name, takes), func(t *testing.T) {
				gave := make(chan error, 1)
				s := serveRaw(t, drain.Options{IdleGrace: silence, Grace: time.Hour}, func(_ context.Context, nc net.Conn) {
					go func() { io.Copy(io.Discard, nc); nc.(interface{ SetLinger(int) error }).SetLinger(0); nc.Close() }() // ends with nc
					gave <- give(nc)
				})
				c := s.dial()
				c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
				taken, err := io.CopyN(io.Discard, c.r, 64<<10)
				s.handOver()
				tick := time.NewTicker(silence / 50)
				defer tick.Stop()
				for since := time.Now(); takes && err == nil && time.Since(since) < 2*silence; <-tick.C {
					var n int64
					n, err = io.CopyN(io.Discard, c.r, 8<<10)
					taken += n
				}
				if takes {
					n, _ := io.CopyN(io.Discard, c.r, size-taken)
					taken += n
					c.Close()
				}
				if err := <-gave; (err == nil) != takes || taken < size && takes {
					t.Errorf("%d bytes of %d were taken, the server had %v", taken, size, err)
				}
				s.clean()
			})
		}
	}
}

// held starts a service of raw connections. It returns the two ends of a connection on which the client has sent a byte.
func held(t *testing.T, network string) (s *service, nc net.Conn, c *client) {
	t.Helper()
	ln, conns, on := listenOn(t, network), make(chan net.Conn, 1), make(chan struct{})
	s = prepare(t, &http.Server{}, drain.Options{})
	s.run(func(ctx context.Context) error {
		return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) { conns <- nc; <-on })
	})
	c = dialTo(t, ln.Addr())
	c.send("x")
	t.Cleanup(func() { close(on); c.Close() })
	return s, <-conns, c
}

// A drain does not interrupt a part of a copy by the kernel. It interrupts the connection when the part is over.
func TestPartsOfACopyAreNotInterrupted(t *testing.T) {
	s, _, _ := held(t, "tcp")
	end, err := drain.Part(s.Server)
	if err != nil {
		t.Fatal(err)
	}
	if drain.Leaves(s.Server) {
		t.Error("the part was interrupted")
	}
	end(1)
	if !drain.Leaves(s.Server) {
		t.Error("after the part the connection is not asked to leave")
	}
}

// A raw connection also counts as in use if bytes are read or written by other methods than Read and Write.
func TestRawConnectionsAreInUseByTheirDescriptor(t *testing.T) {
	done := func(uintptr) bool { return true }
	for name, use := range map[string]func(raw syscall.RawConn) error{
		"a Read of the descriptor":  func(raw syscall.RawConn) error { return raw.Read(done) },
		"a Write of the descriptor": func(raw syscall.RawConn) error { return raw.Write(done) },
	} {
		t.Run(name, func(t *testing.T) {
			s, nc, _ := held(t, "tcp")
			raw, err := nc.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			before := drain.Heard(s.Server)
			if err := use(raw); err != nil {
				t.Fatal(err)
			}
			if !drain.Heard(s.Server).After(before) {
				t.Error("it does not count")
			}
		})
	}
	t.Run("the end of a part of a copy", func(t *testing.T) {
		s, _, _ := held(t, "tcp")
		end, err := drain.Part(s.Server)
		if err != nil {
			t.Fatal(err)
		}
		before := drain.Heard(s.Server)
		if end(1); !drain.Heard(s.Server).After(before) {
			t.Error("it does not count")
		}
	})
}

// The bytes of messages of a unix socket are counted. A message that did not come is not counted.
func TestMessagesAreCounted(t *testing.T) {
	buf := make([]byte, 10)
	for name, c := range map[string]struct {
		read, written int64
		use           func(nc netconn.Unix) error
	}{
		"ReadFrom":     {1, 0, func(nc netconn.Unix) error { _, _, err := nc.ReadFrom(buf); return err }},
		"ReadFromUnix": {1, 0, func(nc netconn.Unix) error { _, _, err := nc.ReadFromUnix(buf); return err }},
		"ReadMsgUnix":  {1, 0, func(nc netconn.Unix) error { _, _, _, _, err := nc.ReadMsgUnix(buf, nil); return err }},
		"WriteMsgUnix": {0, 3, func(nc netconn.Unix) error { _, _, err := nc.WriteMsgUnix([]byte("abc"), nil, nil); return err }},
		"a late ReadMsgUnix": {1, 0, func(nc netconn.Unix) error {
			if _, err := nc.Read(buf); err != nil {
				return err
			}
			nc.SetReadDeadline(time.Now().Add(time.Millisecond))
			if n, _, _, _, err := nc.ReadMsgUnix(buf, nil); n != 0 || !isTimeout(err) {
				return fmt.Errorf("ReadMsgUnix = %d, %w", n, err)
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, nc, _ := held(t, "unix")
			if err := c.use(nc.(netconn.Unix)); err != nil {
				t.Fatal(err)
			}
			if e := s.Entries(); len(e) != 1 || e[0].Read != c.read || e[0].Written != c.written {
				t.Errorf("entries %+v, want %d read and %d written", e, c.read, c.written)
			}
		})
	}
}
