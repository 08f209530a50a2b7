//go:build unix

package listener

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for an event that must come.
const patience = 30 * time.Second

// generation has the role of tableflip in a process. It holds the sockets that the previous process has passed, and keeps a
// duplicate of every socket that was taken out.
type generation struct {
	files map[[3]string]*os.File // the sockets that were not taken yet
	taken map[[3]string]*os.File
	asked [][3]string
}

var _ Inheritor = (*generation)(nil)

func (g *generation) take(kind, network, addr string) *os.File {
	key := [3]string{kind, network, addr}
	g.asked = append(g.asked, key)
	f := g.files[key]
	if f != nil {
		delete(g.files, key)
		g.taken[key] = f
	}
	return f
}

func (g *generation) Listener(network, addr string) (net.Listener, error) {
	if f := g.take("listener", network, addr); f != nil {
		return net.FileListener(f)
	}
	return nil, nil
}

func (g *generation) PacketConn(network, addr string) (net.PacketConn, error) {
	if f := g.take("packet", network, addr); f != nil {
		return net.FilePacketConn(f)
	}
	return nil, nil
}

// newSet returns the set of a process. If before is not nil, the previous process had the set before, and has passed its
// sockets.
func newSet(t testing.TB, before *Set) (*Set, *generation) {
	t.Helper()
	g := &generation{files: map[[3]string]*os.File{}, taken: map[[3]string]*os.File{}}
	if before != nil {
		files, drop, err := before.Dup()
		if err != nil {
			t.Fatal(err)
		}
		defer drop()
		for _, f := range files {
			fd, err := sys.DupFD(int(f.FD))
			if err != nil {
				t.Fatal(err)
			}
			g.files[f.Name] = os.NewFile(uintptr(fd), "inherited")
		}
	}
	s := New(g, func(net.Conn) bool { return false })
	t.Cleanup(func() {
		s.ReleaseAll()
		for _, held := range []map[[3]string]*os.File{g.files, g.taken} {
			for _, f := range held {
				f.Close()
			}
		}
	})
	return s, g
}

// listen opens a listener, which is closed at the end of the test.
func listen(t testing.TB, s *Set, network, addr string, pinned bool) net.Listener {
	t.Helper()
	ln, err := s.Listen(network, addr, pinned)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// listenPacket opens a packet connection, which is closed at the end of the test.
func listenPacket(t testing.TB, s *Set, network, addr string) net.PacketConn {
	t.Helper()
	c, err := s.ListenPacket(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dial connects to a listener. The connection is closed at the end of the test.
func dial(t testing.TB, ln net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// accept returns the next connection of a listener, which is closed at the end of the test.
func accept(t testing.TB, ln net.Listener) net.Conn {
	t.Helper()
	if err := ln.(*listener).SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// socketPath returns a short path, because the path of a unix socket must not be long.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// exists reports whether there is a file at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// setNumber sets a number whose type is different on different platforms.
func setNumber[T int64 | uint64](to *T, n int) { *to = T(n) }

// limitFiles makes this process unable to open more descriptors, until the end of the test.
func limitFiles(t testing.TB) {
	t.Helper()
	var old unix.Rlimit
	next, err := sys.DupFD(0) // the lowest free number
	if err = errors.Join(err, unix.Getrlimit(unix.RLIMIT_NOFILE, &old)); err != nil {
		t.Fatal(err)
	}
	sys.CloseFD(next)
	low := old
	setNumber(&low.Cur, next)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
}
