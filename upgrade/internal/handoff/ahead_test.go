//go:build unix

package handoff

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// newTurn returns a turn with the number that is present.
func newTurn(number uint32) turn {
	now := new(atomic.Uint32)
	now.Store(number)
	return turn{number, now}
}

// pairOf returns the two ends of a connection. They are closed at the end of the test.
func pairOf(t testing.TB, network string) (client, server net.Conn) {
	t.Helper()
	if network == "unix" {
		client, file, err := sys.UnixPair()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		server, err = net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close(); server.Close() })
		return client, server
	}
	ln, err := net.Listen(network, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial(network, ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// moved returns a connection that came from another process with bytes ahead, and the client of the connection. Both are closed
// at the end of the test.
func moved(t testing.TB, network, ahead string) (client net.Conn, c *Conn) {
	t.Helper()
	client, server := pairOf(t, network)
	file, err := sys.ConnFile(server)
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	moved, err := NewConn(file, wire.ConnBody{Network: network, Addr: "here", Ahead: []byte(ahead)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { moved.Close() })
	if err := errors.Join(file.Close(), client.SetDeadline(time.Now().Add(10*time.Second))); err != nil {
		t.Fatal(err)
	}
	return client, moved.(*Conn)
}

// halfClose ends the direction from the client.
func halfClose(t testing.TB, client net.Conn) {
	t.Helper()
	if err := client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// shortWriter is a writer that takes only a limited number of bytes.
type shortWriter struct {
	room int
	got  bytes.Buffer
}

func (w *shortWriter) Write(p []byte) (int, error) {
	n, err := w.got.Write(p[:min(len(p), w.room)])
	if w.room -= n; n < len(p) {
		return n, errors.New("full")
	}
	return n, err
}

// Every way of reading first returns the bytes ahead, once, and then the bytes that the client has sent later.
func TestBytesAheadComeFirstAndOnce(t *testing.T) {
	const ahead, rest = "GET / HTTP", "/1.1\r\n\r\n"
	for _, network := range []string{"tcp", "unix"} {
		for _, c := range []struct {
			name string
			read func(*Conn) ([]byte, error)
		}{
			{"Read", func(c *Conn) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{c}) }},
			{"Read of single bytes", func(c *Conn) ([]byte, error) { return io.ReadAll(iotest.OneByteReader(struct{ io.Reader }{c})) }},
			{"WriteTo", func(c *Conn) ([]byte, error) {
				var b bytes.Buffer
				n, err := c.WriteTo(&b)
				if n != int64(b.Len()) {
					t.Errorf("WriteTo: %d bytes, and %d were written", n, b.Len())
				}
				return b.Bytes(), err
			}},
			{"Read, then WriteTo", func(c *Conn) ([]byte, error) {
				b := make([]byte, 3, 100)
				n, err1 := c.Read(b)
				w := bytes.NewBuffer(b[:n])
				_, err2 := c.WriteTo(w)
				return w.Bytes(), errors.Join(err1, err2)
			}},
			{"WriteTo that fails, then Read", func(c *Conn) ([]byte, error) {
				w := &shortWriter{room: 4}
				if n, err := c.WriteTo(w); n != 4 || err == nil {
					t.Errorf("WriteTo: %d bytes, %v", n, err)
				}
				b, err := io.ReadAll(struct{ io.Reader }{c})
				return append(w.got.Bytes(), b...), err
			}},
		} {
			client, conn := moved(t, network, ahead)
			if _, err := io.WriteString(client, rest); err != nil {
				t.Fatal(err)
			}
			halfClose(t, client)
			got, err := c.read(conn)
			if err != nil || string(got) != ahead+rest {
				t.Errorf("%s, %s: %q, %v, want %q", network, c.name, got, err, ahead+rest)
			}
			if left := Unread(conn); !Carries(conn) || len(left) > 0 {
				t.Errorf("%s, %s: carries %v, left %q", network, c.name, Carries(conn), left)
			}
		}
	}
}

// A Read returns the bytes ahead at once, and does not wait for the client.
func TestBytesAheadDoNotWait(t *testing.T) {
	_, c := moved(t, "tcp", "ahead")
	b := make([]byte, 100)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "ahead" {
		t.Errorf("%q, %v", b[:n], err)
	}
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// ReadFrom writes all bytes that it reads, on TCP connections and on unix connections.
func TestReadFromWritesAll(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		client, c := moved(t, network, "")
		if n, err := c.ReadFrom(strings.NewReader("an answer")); n != 9 || err != nil {
			t.Errorf("%s: %d bytes, %v", network, n, err)
		}
		c.Close()
		if b, err := io.ReadAll(client); err != nil || string(b) != "an answer" {
			t.Errorf("%s: %q, %v", network, b, err)
		}
	}
}

// After CloseWrite the client reads the end of the stream, and can still send.
func TestCloseWriteEndsOneDirection(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		client, c := moved(t, network, "")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d bytes, %v", network, n, err)
		}
		if _, err := io.WriteString(client, "x"); err != nil {
			t.Errorf("%s: %v", network, err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("%s: %d bytes, %v", network, n, err)
		}
	}
	if err := (&Conn{Conn: wrapped{}}).CloseWrite(); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("a connection without it: %v", err)
	}
}

// SyscallConn gives access to the descriptor of a moved connection, and NetConn returns the connection of package net.
func TestMovedConnectionHasADescriptor(t *testing.T) {
	client, c := moved(t, "tcp", "")
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Write(func(fd uintptr) bool {
		_, err := syscall.Write(int(fd), []byte("raw"))
		return err != syscall.EAGAIN
	}); err != nil {
		t.Error(err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "raw" {
		t.Errorf("%q, %v", b, err)
	}
	if _, ok := c.NetConn().(*net.TCPConn); !ok {
		t.Errorf("%T", c.NetConn())
	}
}

// If a connection has no slot, no other process has a descriptor: the methods that write to a slot do nothing, and Close ends
// the connection.
func TestConnectionWithoutASlot(t *testing.T) {
	client, c := moved(t, "tcp", "")
	if c.SetIdle(); c.Kept() || c.WasIdle() {
		t.Errorf("kept %v, was idle %v", c.Kept(), c.WasIdle())
	}
	if network, addr := c.Origin(); network != "tcp" || addr != "here" {
		t.Errorf("from %s %s", network, addr)
	}
	if unit, weight, ok := Assigned(c); unit != "" || weight != 0 || ok {
		t.Errorf("unit %q, weight %v, %v", unit, weight, ok)
	}
	c.Abandon()
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// wrapped is a connection in a wrapper of a program.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

// hidden is a wrapper that hides what it wraps.
type hidden struct{ net.Conn }

// Lowest finds the connection of the listener in wrappers that have the method NetConn. It returns nil for a wrapper without
// this method and for TLS, because keys of TLS cannot be passed on. Bare unwraps a Conn, and Assigned unwraps all wrappers with
// NetConn.
func TestLowestLooksThroughWrappers(t *testing.T) {
	_, tcp := pairOf(t, "tcp")
	_, local := pairOf(t, "unix")
	_, other := pairOf(t, "tcp")
	m := &Conn{Conn: other}
	assign(other, "192.0.2.1", 0.25, newTurn(1))
	for _, c := range []struct {
		name     string
		in, want net.Conn
		assigned bool
	}{
		{"tcp", tcp, tcp, false}, {"unix", local, local, false}, {"moved", m, m, true}, {"as net has it", other, other, true},
		{"wrapped", wrapped{tcp}, tcp, false}, {"wrapped twice", wrapped{wrapped{m}}, m, true},
		{"tls", tls.Server(tcp, nil), nil, false}, {"wrapped tls", wrapped{tls.Server(m, nil)}, nil, true},
		{"hidden", hidden{tcp}, nil, false}, {"nothing", wrapped{}, nil, false},
	} {
		if got := Lowest(c.in); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		if unit, weight, ok := Assigned(c.in); ok != c.assigned || ok != (unit == "192.0.2.1" && weight == 0.25) {
			t.Errorf("%s: assigned %q, %v, %v", c.name, unit, weight, ok)
		}
	}
	if Bare(m) != other || Bare(tcp) != tcp {
		t.Error("Bare does not find the connection of package net")
	}
	if Carries(tcp) || Unread(tcp) != nil {
		t.Error("a connection of this process brings something")
	}
}
