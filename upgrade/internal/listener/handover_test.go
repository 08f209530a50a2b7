//go:build unix

package listener

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"golang.org/x/sys/unix"
)

// localAddrs returns the local addresses of the sockets of a set, in the order of opening.
func localAddrs(t testing.TB, s *Set) (all []string) {
	t.Helper()
	for _, r := range s.Refs() {
		sa, err := unix.Getsockname(r.fd)
		if err != nil {
			t.Fatal(err)
		}
		switch a := sa.(type) {
		case *unix.SockaddrInet4:
			all = append(all, fmt.Sprint(a.Addr, a.Port))
		case *unix.SockaddrUnix:
			all = append(all, a.Name)
		}
	}
	return all
}

// If each process opens its sockets in the same order, every socket keeps its name and stays the same socket. This also holds
// for several sockets with port 0 and for pinned listeners.
func TestSameOrderIsTheSameName(t *testing.T) {
	path := socketPath(t)
	want := []string{
		"listener tcp 127.0.0.1:0", "listener tcp 127.0.0.1:0#2", "listener tcp 127.0.0.1:0#pinned",
		"listener tcp 127.0.0.1:0#pinned#2", "listener tcp 127.0.0.1:0#3", "packet udp 127.0.0.1:0", "packet udp 127.0.0.1:0#2",
		"listener unix " + path, "packet unixgram " + path + "g",
	}
	var before *Set
	var addrs []string
	for generation := range 3 {
		s, g := newSet(t, before)
		for _, pinned := range []bool{false, false, true, true, false} {
			listen(t, s, "tcp", "127.0.0.1:0", pinned)
		}
		listenPacket(t, s, "udp", "127.0.0.1:0")
		listenPacket(t, s, "udp", "127.0.0.1:0")
		listen(t, s, "unix", path, false)
		listenPacket(t, s, "unixgram", path+"g")
		var names []string
		for _, r := range s.Refs() {
			names = append(names, r.kind+" "+r.Network+" "+r.Addr)
		}
		if !slices.Equal(names, want) {
			t.Errorf("generation %d has the names %q", generation, names)
		}
		if now := localAddrs(t, s); before == nil {
			addrs = now
		} else if !slices.Equal(now, addrs) || len(g.files) > 0 {
			t.Errorf("generation %d listens at %q, want %q; %d sockets were not taken", generation, now, addrs, len(g.files))
		}
		before = s
	}
}

// The next version finds a port by the name even if it opens the pinned listener first, or opens one more listener.
func TestPinnedListenersHaveNamesOfTheirOwn(t *testing.T) {
	old, _ := newSet(t, nil)
	shared, pinned := listen(t, old, "tcp", "127.0.0.1:0", false), listen(t, old, "tcp", "127.0.0.1:0", true)
	next, _ := newSet(t, old)
	nextPinned := listen(t, next, "tcp", "127.0.0.1:0", true)
	nextShared := listen(t, next, "tcp", "127.0.0.1:0", false)
	third := listen(t, next, "tcp", "127.0.0.1:0", false)
	if nextPinned.Addr().String() != pinned.Addr().String() || nextShared.Addr().String() != shared.Addr().String() {
		t.Errorf("pinned at %v, want %v; shared at %v, want %v", nextPinned.Addr(), pinned.Addr(), nextShared.Addr(), shared.Addr())
	}
	for _, ln := range []net.Listener{shared, pinned} {
		if third.Addr().String() == ln.Addr().String() {
			t.Errorf("one more listener is at %v, which is taken", third.Addr())
		}
	}
}

// If a listener is closed and opened again, it gets the same name again. The other listener of the same address keeps its name.
func TestReopenedListenerHasItsNameAgain(t *testing.T) {
	old, _ := newSet(t, nil)
	first, second := listen(t, old, "tcp", "127.0.0.1:0", false), listen(t, old, "tcp", "127.0.0.1:0", false)
	first.Close()
	first = listen(t, old, "tcp", "127.0.0.1:0", false)
	next, _ := newSet(t, old)
	for i, want := range []net.Listener{first, second} {
		if got := listen(t, next, "tcp", "127.0.0.1:0", false); got.Addr().String() != want.Addr().String() {
			t.Errorf("listener %d is at %v, want %v", i+1, got.Addr(), want.Addr())
		}
	}
}

// The name of an address with a port is the address itself, for pinned sockets too.
func TestAddressWithAPortIsTheName(t *testing.T) {
	for _, network := range []string{"127.0.0.1:80", ":http", "[::1]:8080", "/run/socket", "@abstract"} {
		if got := (&Set{}).name("tcp", network, true); got != network {
			t.Errorf("%s is called %s", network, got)
		}
	}
}

// accepts reports whether a descriptor is a socket that listens.
func accepts(fd uintptr) bool {
	v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && v == 1
}

// A duplicate of Dup accepts connections until drop is called, even if the program closes the listener.
func TestDuplicatesServeUntilDrop(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	files, drop, err := s.Dup()
	if err != nil || len(files) != 1 || files[0].Name != [3]string{"listener", "tcp", "127.0.0.1:0"} {
		t.Fatalf("%+v, %v", files, err)
	}
	ln.Close()
	if c, err := net.Dial("tcp", ln.Addr().String()); err != nil || !accepts(files[0].FD) {
		t.Errorf("the duplicate does not serve: %v", err)
	} else {
		c.Close()
	}
	drop()
	if c, err := net.Dial("tcp", ln.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after drop: %v, %v", c, err)
	}
	if files, drop, err := s.Dup(); err != nil || len(files) > 0 {
		t.Errorf("a closed listener is handed on: %v, %v", files, err)
	} else {
		drop()
	}
}

// Every duplicate of Dup belongs to a listener, even if the program closes listeners at the same time. The number of a closed
// descriptor may belong to another file at once.
func TestDuplicatesAreListenersWhateverIsClosed(t *testing.T) {
	s, _ := newSet(t, nil)
	stop := make(chan struct{})
	var closing sync.WaitGroup
	for range 2 {
		closing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ln, err := s.Listen("tcp", "127.0.0.1:0", false)
				if err != nil {
					t.Error(err)
					return
				}
				ln.Close()
				if null, err := os.Open(os.DevNull); err == nil { // this file may get the number of a closed listener
					null.Close()
				}
			}
		})
	}
	for seen := 0; seen < 200 && !t.Failed(); {
		files, drop, err := s.Dup()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			seen++
			if !accepts(f.FD) {
				t.Errorf("descriptor %d is no listener", f.FD)
			}
		}
		drop()
	}
	close(stop)
	closing.Wait()
}

// If no descriptor is free, the error of Dup has advice.
func TestDupNeedsDescriptors(t *testing.T) {
	s, _ := newSet(t, nil)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	spare, err := os.Open(os.DevNull) // closed later, to make room for the first duplicate
	if err != nil {
		t.Fatal(err)
	}
	limitFiles(t)
	spare.Close()
	before := testutil.OpenFDs()
	files, _, err := s.Dup()
	if now := testutil.OpenFDs(); len(now) != len(before) {
		t.Errorf("open descriptors: %q, before: %q", now, before)
	}
	if files != nil || !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), "duplicate tcp 127.0.0.1:0#2: ") || !strings.Contains(err.Error(), "raise the limit") {
		t.Errorf("%v, %v", files, err)
	}
}

// If this version does not open a unix socket, the path of the socket stays until drop is called, because the old process may
// have to serve there again. drop removes the path. It does not remove the path of a socket that this version has opened.
func TestUnopenedPathStaysUntilDrop(t *testing.T) {
	old, _ := newSet(t, nil)
	path := socketPath(t)
	given, gone, gram := listen(t, old, "unix", path, false), listen(t, old, "unix", path+"x", false), listenPacket(t, old, "unixgram", path+"g")
	names := old.Paths()
	if len(names) != 3 || names[1] != (wire.SocketName{Kind: "listener", Network: "unix", Addr: path + "x"}) {
		t.Fatalf("%v", names)
	}
	next, g := newSet(t, old)
	listen(t, next, "unix", path, false)
	before := testutil.OpenFDs()
	drop := next.ClaimRest(names)
	if len(g.files) > 0 {
		t.Errorf("tableflip would remove the paths of %v", g.files)
	}
	if slices.Contains(g.asked[1:], [3]string{"listener", "unix", path}) {
		t.Error("the socket that was opened is taken a second time")
	}
	old.Open(true)
	dial(t, gone).Close()
	accept(t, gone).Close()
	drop()
	next.AwaitRemoval()
	if now := testutil.OpenFDs(); len(now) != len(before) {
		t.Errorf("open descriptors: %q, before: %q", now, before)
	}
	if !exists(path) || exists(path+"x") || exists(path+"g") {
		t.Errorf("path of the opened socket: %v; of the others: %v, %v", exists(path), exists(path+"x"), exists(path+"g"))
	}
	for _, c := range []io.Closer{given, gone, gram} {
		c.Close()
	}
}

// If another file has replaced an unopened socket at its path, drop does not remove the file.
func TestDropRemovesSocketsOnly(t *testing.T) {
	old, _ := newSet(t, nil)
	path := socketPath(t)
	listen(t, old, "unix", path, false)
	next, _ := newSet(t, old)
	drop := next.ClaimRest(old.Paths())
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("precious"), 0o600)); err != nil {
		t.Fatal(err)
	}
	drop()
	next.AwaitRemoval()
	if !exists(path) {
		t.Error("it is removed")
	}
}
