package sockbuf_test

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/midair-go/midair/drain/internal/sockbuf"
	"github.com/midair-go/midair/internal/testutil"
)

// patience is how long a test waits at most for something that must happen.
const patience = 30 * time.Second

// connected returns both ends of a TCP connection over loopback.
func connected(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client.(*net.TCPConn), server.(*net.TCPConn)
}

// onlyOn skips a test on systems on which the package does not ask the kernel.
func onlyOn(t *testing.T, systems ...string) {
	t.Helper()
	for _, s := range systems {
		if s == runtime.GOOS {
			return
		}
	}
	t.Skipf("the kernel of %s is not asked", runtime.GOOS)
}

// Queued notices what the kernel has for a Read, and does not read it. An end counts too.
func TestQueuedSeesBytesAndEnds(t *testing.T) {
	onlyOn(t, "linux", "darwin", "freebsd", "netbsd", "openbsd", "dragonfly")
	near, far := connected(t)
	if sockbuf.Queued(far) {
		t.Error("something is queued at the beginning")
	}
	near.Write([]byte("x"))
	testutil.Until(t, patience, "the byte to be queued", func() bool { return sockbuf.Queued(far) })
	if n, err := far.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Errorf("the byte was taken: Read = %d, %v", n, err)
	}
	if sockbuf.Queued(far) {
		t.Error("something is queued after the read")
	}
	near.Close()
	testutil.Until(t, patience, "the end to be queued", func() bool { return sockbuf.Queued(far) })
	far.Close()
	if !sockbuf.Queued(far) {
		t.Error("a closed connection looks silent")
	}
}

// Queued returns although another goroutine waits in a Read of the connection.
func TestQueuedDoesNotWaitForARead(t *testing.T) {
	near, far := connected(t)
	read := make(chan error, 1)
	go func() { // ends with the close of near
		_, err := far.Read(make([]byte, 1))
		read <- err
	}()
	for range 100 {
		if sockbuf.Queued(far) {
			t.Fatal("something is queued")
		}
	}
	near.Close()
	if err := <-read; err != io.EOF {
		t.Errorf("Read: %v", err)
	}
}

// Bytes that a client does not read stay unsent, because the kernel of the client acknowledges no more than fits into its
// buffer.
func TestUnsentCountsWhatIsNotAcknowledged(t *testing.T) {
	onlyOn(t, "linux")
	near, far := connected(t)
	if n := sockbuf.Unsent(far); n != 0 {
		t.Errorf("%d bytes are unsent at the beginning", n)
	}
	all, written := make([]byte, 64<<20), 0
	for written == 0 { // on a very slow machine, the deadline may pass before the first byte is written
		far.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		n, err := far.Write(all)
		if err == nil {
			t.Fatalf("%d bytes fit the buffers of the kernel", n)
		}
		written = n
	}
	if n := sockbuf.Unsent(far); n <= 0 || n > written {
		t.Errorf("%d of %d bytes are unsent", n, written)
	}
	if got, err := io.CopyN(io.Discard, near, int64(written)); err != nil {
		t.Fatalf("the client read %d bytes, %v", got, err)
	}
	testutil.Until(t, patience, "all to be acknowledged", func() bool { return sockbuf.Unsent(far) == 0 })
	far.Close()
	if n := sockbuf.Unsent(far); n != 0 {
		t.Errorf("%d bytes of a closed connection are unsent", n)
	}
}

// Bytes that were on their way when the client reset the connection do not count as unsent, even if the client had closed its
// side before.
func TestUnsentIsNothingAfterAReset(t *testing.T) {
	onlyOn(t, "linux")
	for name, before := range map[string]func(near *net.TCPConn){
		"a reset":            func(*net.TCPConn) {},
		"an end and a reset": func(near *net.TCPConn) { near.CloseWrite() },
	} {
		near, far := connected(t)
		written := make(chan error, 1)
		go func() { // ends with the reset
			_, err := far.Write(make([]byte, 64<<20))
			written <- err
		}()
		testutil.Until(t, patience, "there to be something", func() bool { return sockbuf.Unsent(far) > 0 })
		before(near)
		near.SetLinger(0)
		near.Close()
		if err := <-written; err == nil {
			t.Errorf("%s: the Write succeeded", name)
		}
		if n := sockbuf.Unsent(far); n != 0 {
			t.Errorf("%d bytes are unsent after %s", n, name)
		}
	}
}

// A connection without a socket has no buffers in the kernel.
func TestConnectionsThatAreNoSocketsHoldNothing(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if sockbuf.Queued(far) || sockbuf.Unsent(far) != 0 {
		t.Error("a pipe has something in its buffers")
	}
}
