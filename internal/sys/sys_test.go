//go:build unix

package sys_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

// keepsNothing fails the test if more descriptors are open at its end than now.
func keepsNothing(t testing.TB) {
	t.Helper()
	before := testutil.OpenFDs()
	t.Cleanup(func() {
		if after := testutil.OpenFDs(); len(after) != len(before) {
			t.Errorf("open descriptors: %q, before the test: %q", after, before)
		}
	})
}

// pipe returns the two ends of a pipe, which are closed at the end of the test.
func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// tcpPair returns the two ends of a TCP connection, which are closed at the end of the test.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// unixPair returns the ends of a pair of unix sockets, which are closed at the end of the test.
func unixPair(t testing.TB) (*net.UnixConn, *os.File) {
	t.Helper()
	ours, theirs, err := sys.UnixPair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours.(*net.UnixConn), theirs
}

// socketPair returns the ends of a control socket, which are closed at the end of the test.
func socketPair(t testing.TB) (ours, theirs *os.File) {
	t.Helper()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// memFile returns a file of MemFile, which is closed at the end of the test.
func memFile(t testing.TB) *os.File {
	t.Helper()
	f, err := sys.MemFile("midair-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// mustRead reads that many bytes.
func mustRead(t testing.TB, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	return string(b)
}

// mustWrite writes the text.
func mustWrite(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatalf("write %q: %v", text, err)
	}
}

// inodeOf returns the inode of an open descriptor.
func inodeOf(t testing.TB, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Ino)
}

// FD leaves a descriptor non-blocking: a deadline on the file works afterwards.
func TestFDKeepsDeadlines(t *testing.T) {
	r, _ := pipe(t)
	flags, err := unix.FcntlInt(sys.FD(r), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Fatalf("flags %#x, %v: the descriptor is blocking", flags, err)
	}
	if err := r.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
}

// FD of a closed file is the greatest number, which no descriptor has: it must not be 0, which is standard input.
func TestClosedFileHasNoDescriptor(t *testing.T) {
	r, _ := pipe(t)
	r.Close()
	if fd := sys.FD(r); fd != ^uintptr(0) {
		t.Errorf("descriptor %d", fd)
	}
	if fd := sys.FD(nil); fd != ^uintptr(0) {
		t.Errorf("no file has descriptor %d", fd)
	}
	if f, err := sys.DupFile(r); !errors.Is(err, unix.EBADF) {
		t.Errorf("duplicate: %v, %v", f, err)
	}
}

// CloseFD closes exactly the descriptor that it is given.
func TestCloseFDClosesOneDescriptor(t *testing.T) {
	r, w := pipe(t)
	fd, err := sys.DupFD(int(sys.FD(w)))
	if err != nil {
		t.Fatal(err)
	}
	sys.CloseFD(fd)
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the duplicate is still open: %v", err)
	}
	mustWrite(t, w, "x")
	mustRead(t, r, 1)
}

// DupFile returns a descriptor of its own with the name of the file: the file may be closed.
func TestDupFileOutlivesTheFile(t *testing.T) {
	r, w := pipe(t)
	dup, err := sys.DupFile(w)
	if err != nil {
		t.Fatal(err)
	}
	defer dup.Close()
	if dup.Name() != w.Name() || sys.FD(dup) == sys.FD(w) {
		t.Errorf("duplicate %d %q of %d %q", sys.FD(dup), dup.Name(), sys.FD(w), w.Name())
	}
	w.Close()
	mustWrite(t, dup, "x")
	mustRead(t, r, 1)
}

// Duplicate returns the inode of the socket, which is the same for every descriptor of the socket.
func TestDuplicateKnowsTheSocket(t *testing.T) {
	client, server := tcpPair(t)
	inodes := map[uint64]int{}
	for _, c := range []syscall.Conn{client, client, server} {
		fd, inode, err := sys.Duplicate(c)
		if err != nil {
			t.Fatal(err)
		}
		if want := inodeOf(t, fd); inode != want {
			t.Errorf("inode %d, want %d", inode, want)
		}
		sys.CloseFD(fd)
		inodes[inode]++
	}
	if len(inodes) != 2 {
		t.Errorf("two sockets have the inodes %v", inodes)
	}
}

// A closed connection cannot be duplicated, and no number is returned that might be another's descriptor.
func TestClosedConnectionIsNotDuplicated(t *testing.T) {
	client, _ := tcpPair(t)
	client.Close()
	if fd, inode, err := sys.Duplicate(client); fd != -1 || inode != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Duplicate: %d, inode %d, %v", fd, inode, err)
	}
	if f, err := sys.ConnFile(client); f != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("ConnFile: %v, %v", f, err)
	}
	sys.Shutdown(client)
}

// ConnFile refuses a connection without a descriptor by its type.
func TestConnFileNamesWhatHasNoDescriptor(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if f, err := sys.ConnFile(near); f != nil || err == nil || !strings.Contains(err.Error(), "*net.pipe has no descriptor") {
		t.Errorf("%v, %v", f, err)
	}
}

// ConnFile returns another descriptor of the connection: the connection itself may be closed.
func TestConnFileOutlivesTheConnection(t *testing.T) {
	client, server := tcpPair(t)
	f, err := sys.ConnFile(client)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	client.Close()
	mustWrite(t, f, "x")
	mustRead(t, server, 1)
}

// Shutdown ends both directions of a connection, although another descriptor of the connection is open.
func TestShutdownReachesEveryDescriptor(t *testing.T) {
	tcp, tcpPeer := tcpPair(t)
	local, localPeer := unixPair(t)
	for name, c := range map[string]struct {
		near net.Conn
		far  interface {
			io.ReadWriter
			SetReadDeadline(at time.Time) error
		}
	}{"tcp": {tcp, tcpPeer}, "unix": {local, localPeer}} {
		other, err := sys.ConnFile(c.near)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		limit := time.Now().Add(10 * time.Second)
		if err := errors.Join(c.far.SetReadDeadline(limit), other.SetReadDeadline(limit)); err != nil {
			t.Fatal(err)
		}
		sys.Shutdown(c.near.(syscall.Conn))
		if n, err := c.far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the peer reads %d bytes, %v", name, n, err)
		}
		if n, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the other descriptor reads %d bytes, %v", name, n, err)
		}
		if _, err := other.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
			t.Errorf("%s: the other descriptor writes: %v", name, err)
		}
	}
}

// UnixPair connects its ends in both directions, and the end of one is the end of the stream of the other.
func TestUnixPairIsConnected(t *testing.T) {
	keepsNothing(t)
	ours, theirs := unixPair(t)
	mustWrite(t, ours, "to them")
	mustWrite(t, theirs, "to us")
	if got := mustRead(t, theirs, 7) + mustRead(t, ours, 5); got != "to themto us" {
		t.Errorf("%q", got)
	}
	theirs.Close()
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

// A file of MemFile is in no directory, and two of the same name have nothing in common.
func TestMemFileIsInNoDirectory(t *testing.T) {
	a, b := memFile(t), memFile(t)
	mustWrite(t, a, "content of a")
	if got := mustRead(t, io.NewSectionReader(a, 0, 12), 12); got != "content of a" {
		t.Errorf("%q", got)
	}
	if info, err := b.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("the other file: %v, %v", info, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(sys.FD(a)), &st); err != nil || st.Nlink != 0 {
		t.Errorf("%d names, %v", st.Nlink, err)
	}
}

// Every descriptor that this package returns is close-on-exec: a program that a service starts must not get it.
func TestDescriptorsAreCloseOnExec(t *testing.T) {
	client, _ := tcpPair(t)
	local, localFile := unixPair(t)
	ours, theirs := socketPair(t)
	dup, err1 := sys.DupFile(localFile)
	conn, err2 := sys.ConnFile(client)
	raw, err3 := sys.DupFD(int(sys.FD(localFile)))
	second, _, err4 := sys.Duplicate(client)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	defer func() { dup.Close(); conn.Close(); sys.CloseFD(raw); sys.CloseFD(second) }()
	localFD := -1
	if rc, err := local.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { localFD = int(fd) })
	}
	for name, fd := range map[string]int{
		"DupFile": int(sys.FD(dup)), "ConnFile": int(sys.FD(conn)), "DupFD": raw, "Duplicate": second,
		"UnixPair, our end": localFD, "UnixPair, their end": int(sys.FD(localFile)),
		"SocketPair, our end": int(sys.FD(ours)), "SocketPair, their end": int(sys.FD(theirs)),
		"MemFile": int(sys.FD(memFile(t))), "ReceivedFiles": int(sys.FD(receive(t)[0])),
	} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: descriptor %d has flags %#x, %v", name, fd, flags, err)
		}
	}
}
