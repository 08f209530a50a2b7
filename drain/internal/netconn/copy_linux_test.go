package netconn_test

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain/internal/netconn"
	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// rounds is a Reader that counts the parts of a copy, and ends the copy after 100 parts.
type rounds struct{ n int }

func (r *rounds) Await(w *sockbuf.Waiter) (int, error) {
	if r.n++; r.n > 100 {
		return 0, nil
	}
	return w.Wait()
}

func (*rounds) Read(int64) {}

// pair is the two ends of a TCP connection.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	ac, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ac.Close() })
	return nc.(*net.TCPConn), ac.(*net.TCPConn)
}

// urgent sends a byte out of band.
func urgent(t *testing.T, nc *net.TCPConn) {
	t.Helper()
	raw, err := nc.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = syscall.Sendto(int(fd), []byte("!"), syscall.MSG_OOB, nil) })
	if err != nil {
		t.Fatal(err)
	}
}

// At an urgent byte, the kernel reports a readable byte but splices nothing. The copy ends there, as with package net, and does
// not loop.
func TestSpliceEndsAtAnUrgentByte(t *testing.T) {
	client, from := pair(t)
	to, upstream := pair(t)
	io.WriteString(client, "a")
	urgent(t, client)
	io.WriteString(client, "bcd")
	client.CloseWrite()
	from.SetReadDeadline(time.Now().Add(10 * time.Second))
	in := new(rounds)
	n, ok, err := netconn.Splice(to, netconn.Uncounted{}, from, in, nil)
	if !ok || err != nil || in.n > 100 {
		t.Errorf("Splice = %d, %v, %v after %d rounds", n, ok, err, in.n)
	}
	to.CloseWrite()
	if got, err := io.ReadAll(upstream); err != nil || int64(len(got)) != n {
		t.Errorf("%d bytes were counted, %q arrived, %v", n, got, err)
	}
}
