//go:build unix

package listener

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stale makes a path with a unix socket that no process holds any more.
func stale(t testing.TB, network, path string) {
	t.Helper()
	kind := unix.SOCK_STREAM
	if network == "unixgram" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_UNIX, kind, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

// If no process holds the unix socket at a path any more, Listen replaces the path.
func TestStalePathIsReplaced(t *testing.T) {
	s, _ := newSet(t, nil)
	path := socketPath(t)
	stale(t, "unix", path)
	ln := listen(t, s, "unix", path, false)
	s.Open(true)
	dial(t, ln)
	accept(t, ln)
	stale(t, "unixgram", path+"g")
	listenPacket(t, s, "unixgram", path+"g")
	c, err := net.Dial("unixgram", path+"g")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// If another process holds the unix socket at a path, Listen does not replace the path. This holds even if that process does
// not accept and the queue is full.
func TestLivingPathIsNotReplaced(t *testing.T) {
	path := socketPath(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	before := inode(t, path)
	s, _ := newSet(t, nil)
	for range 3 { // each try leaves a connection in the queue, until the queue is full
		ln, err := s.Listen("unix", path, false)
		if !errors.Is(err, syscall.EADDRINUSE) || inode(t, path) != before {
			t.Fatalf("%v, %v", ln, err)
		}
		c, err := net.Dial("unix", path)
		if err == nil {
			defer c.Close()
		}
	}
}

// inode returns the inode of the file at path.
func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Ino)
}

// If the file at a path is no socket, Listen does not remove the file to make room for a unix socket.
func TestFileInThePlaceOfASocketStays(t *testing.T) {
	s, _ := newSet(t, nil)
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, listen := range map[string]func() error{
		"listener": func() error { _, err := s.Listen("unix", path, false); return err },
		"packet":   func() error { _, err := s.ListenPacket("unixgram", path); return err },
	} {
		err := listen()
		if b, _ := os.ReadFile(path); string(b) != "precious" || !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: the file holds %q, and the error is %v", what, b, err)
		}
	}
}

// If a symbolic link leads to a unix socket that no process holds any more, Listen removes neither the link nor the socket.
func TestLinkToAStaleSocketStays(t *testing.T) {
	s, _ := newSet(t, nil)
	path := socketPath(t)
	stale(t, "unix", path+"t")
	if err := os.Symlink(path+"t", path); err != nil {
		t.Fatal(err)
	}
	_, err := s.Listen("unix", path, false)
	if target, _ := os.Readlink(path); target != path+"t" || !exists(path+"t") || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the link leads to %q, and the error is %v", target, err)
	}
}

// If another file has replaced a unix socket at its path, the file stays when the socket is closed.
func TestFileThatHasReplacedASocketStays(t *testing.T) {
	s, _ := newSet(t, nil)
	s.UnlinkOnClose(true)
	path := socketPath(t)
	ln := listen(t, s, "unix", path, false)
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("precious"), 0o600)); err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if !exists(path) {
		t.Error("it is removed")
	}
}
