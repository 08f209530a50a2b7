//go:build unix

package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// refused reports whether a client is refused at the address of a listener.
func refused(t testing.TB, ln net.Listener) bool {
	t.Helper()
	c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// names lists the names of the open sockets.
func names(s *Set) (all []string) {
	for _, r := range s.Refs() {
		all = append(all, r.Addr)
	}
	return all
}

// After KeepClosed(true), a listener that the program closes can still be passed on, and connections still wait in its queue.
// The listener ends after KeepClosed(false) and ReleaseAll. Without KeepClosed, a closed listener ends at once.
func TestKeepClosedHandsOnWhatIsClosed(t *testing.T) {
	s, _ := newSet(t, nil)
	ended := listen(t, s, "tcp", "127.0.0.1:0", false)
	ended.Close()
	if !refused(t, ended) || len(s.Refs()) > 0 {
		t.Errorf("a closed listener goes on: %q", names(s))
	}
	s.KeepClosed(true)
	path := socketPath(t)
	s.UnlinkOnClose(true)
	kept := []net.Listener{listen(t, s, "tcp", "127.0.0.1:0", false), listen(t, s, "unix", path, false)}
	for _, ln := range kept {
		ln.Close()
		if refused(t, ln) {
			t.Errorf("%v does not queue any more", ln.Addr())
		}
	}
	next, _ := newSet(t, s)
	if got := listen(t, next, "tcp", "127.0.0.1:0", false); got.Addr().String() != kept[0].Addr().String() {
		t.Errorf("the next process is at %v, want %v", got.Addr(), kept[0].Addr())
	}
	next.ReleaseAll()
	s.KeepClosed(false)
	s.ReleaseAll()
	if exists(path) || len(s.Refs()) > 0 {
		t.Errorf("released, and the path is there: %v, and %q are open", exists(path), names(s))
	}
}

// Closing a unix socket removes its path only after UnlinkOnClose(true), because another process may serve at the path.
func TestUnlinkOnCloseRemovesThePath(t *testing.T) {
	for _, on := range []bool{false, true} {
		s, _ := newSet(t, nil)
		s.UnlinkOnClose(on)
		path := socketPath(t)
		listen(t, s, "unix", path, false).Close()
		listenPacket(t, s, "unixgram", path+"g").Close()
		listen(t, s, "unix", path+"r", false)
		s.ReleaseAll()
		for _, p := range []string{path, path + "g", path + "r"} {
			if exists(p) == on {
				t.Errorf("UnlinkOnClose %v: %s exists: %v", on, p, !on)
			}
		}
	}
}

// If a socket unit has passed a unix socket, the path stays, because it belongs to the unit.
func TestPathOfASocketUnitStays(t *testing.T) {
	path := socketPath(t)
	unit, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer unit.Close()
	file := namedFile(t, unit, "web")
	s, _ := newSet(t, nil)
	s.UnlinkOnClose(true)
	s.Activate(&sdnotify.Activation{Files: []*os.File{file}})
	ln := listen(t, s, sdnotify.Network, "web", false)
	if ln.Addr().String() != path || s.Refs()[0].Storable() != nil || len(s.Paths()) > 0 {
		t.Errorf("%v, storable %v, paths %v", ln.Addr(), s.Refs()[0].Storable(), s.Paths())
	}
	ln.Close()
	if !exists(path) {
		t.Error("it is removed")
	}
}

// Follow reports every open socket in the order of opening. After that it reports each socket that is opened or closed, until
// Follow(nil, nil) is called. A closed socket that is kept (KeepClosed) is not reported as closed.
func TestFollowSeesWhatIsOpenedAndClosed(t *testing.T) {
	s, _ := newSet(t, nil)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	first := listen(t, s, "tcp", "127.0.0.1:0", false)
	var seen []string
	s.Follow(func(r *Socket) { seen = append(seen, "has "+r.Addr) }, func(r *Socket, open bool) {
		seen = append(seen, fmt.Sprint(r.Addr, " open ", open))
	})
	first.Close()
	listenPacket(t, s, "udp", "127.0.0.1:0").Close()
	s.KeepClosed(true)
	listen(t, s, "tcp", "127.0.0.1:0", true).Close()
	s.KeepClosed(false)
	s.Follow(nil, nil)
	listen(t, s, "tcp", "127.0.0.1:0", false).Close()
	want := []string{
		"has 127.0.0.1:0", "has 127.0.0.1:0#2", "127.0.0.1:0#2 open false",
		"127.0.0.1:0 open true", "127.0.0.1:0 open false", "127.0.0.1:0#pinned open true",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("%q, want %q", seen, want)
	}
}

// Accept calls the Dispatch with every connection, and returns the connections that no other process has taken. Without a
// Dispatch, it returns all connections.
func TestDispatchDecidesOnEveryConnection(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	s.Open(true)
	var asked []string
	s.SetDispatch(func(r *Socket, c net.Conn) bool {
		asked = append(asked, r.Addr+" "+c.RemoteAddr().String())
		if len(asked)%2 == 1 {
			c.Close()
			return true
		}
		return false
	})
	var clients []string
	for range 4 {
		clients = append(clients, dial(t, ln).LocalAddr().String())
	}
	for _, want := range []string{clients[1], clients[3]} {
		if got := accept(t, ln).RemoteAddr().String(); got != want {
			t.Errorf("accepted %s, want %s", got, want)
		}
	}
	for i, client := range clients {
		if want := "127.0.0.1:0 " + client; asked[i] != want {
			t.Errorf("connection %d: asked about %q, want %q", i, asked[i], want)
		}
	}
	s.SetDispatch(nil)
	want := dial(t, ln).LocalAddr().String()
	if got := accept(t, ln).RemoteAddr().String(); got != want || len(asked) != len(clients) {
		t.Errorf("without a dispatch: accepted %s, want %s, and %d were asked about", got, want, len(asked))
	}
}

// Accept of a pinned listener does not call the Dispatch: its connections stay in this process.
func TestPinnedListenersAreNotDispatched(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", true)
	s.Open(true)
	s.SetDispatch(func(*Socket, net.Conn) bool { t.Error("it is dispatched"); return false })
	dial(t, ln)
	accept(t, ln)
}

// Open and Pause change pinned listeners only if the argument pinned is true. This holds for open listeners and for listeners
// that are opened later.
func TestOpenAndPauseSparePinnedListeners(t *testing.T) {
	for _, c := range []struct {
		name           string
		do             func(s *Set)
		shared, pinned bool
	}{
		{"nothing", func(*Set) {}, false, false},
		{"open", func(s *Set) { s.Open(false) }, true, false},
		{"open all", func(s *Set) { s.Open(true) }, true, true},
		{"open all, then open", func(s *Set) { s.Open(true); s.Open(false) }, true, true},
		{"open all, then pause", func(s *Set) { s.Open(true); s.Pause(false) }, false, true},
		{"open all, then pause all", func(s *Set) { s.Open(true); s.Pause(true) }, false, false},
		{"open all, then pause all twice", func(s *Set) { s.Open(true); s.Pause(true); s.Pause(true) }, false, false},
		{"pause all, then open", func(s *Set) { s.Pause(true); s.Open(false) }, true, false},
	} {
		s, _ := newSet(t, nil)
		open := func() {
			listen(t, s, "tcp", "127.0.0.1:0", false)
			listen(t, s, "tcp", "127.0.0.1:0", true)
			listenPacket(t, s, "udp", "127.0.0.1:0")
		}
		open()
		c.do(s)
		open()
		for _, r := range s.Refs() {
			want := c.shared
			if r.pinned {
				want = c.pinned
			}
			if got := r.gate.isOpen(); got != want {
				t.Errorf("%s: %s %s is open: %v", c.name, r.Network, r.Addr, got)
			}
		}
	}
}

// Accepting returns when the program has called Accept on every listener. Packet connections do not count.
func TestAcceptingWaitsForEveryListener(t *testing.T) {
	s, _ := newSet(t, nil)
	listenPacket(t, s, "udp", "127.0.0.1:0")
	first, second := listen(t, s, "tcp", "127.0.0.1:0", false), listen(t, s, "tcp", "127.0.0.1:0", true)
	ended := make(chan error, 2)
	waits := func(ln net.Listener) {
		go func() { // ends when the listener is closed
			_, err := ln.Accept()
			ended <- err
		}()
	}
	waits(first)
	late, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("time is over"))
	if err := s.Accepting(late); err == nil {
		t.Error("one listener has nobody, and nothing is said")
	}
	waits(second)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if err := s.Accepting(ctx); err != nil {
		t.Error(err)
	}
	first.Close()
	second.Close()
	for range 2 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept of a closed listener: %v", err)
		}
	}
}

// FirstFailure returns the first error that was noted.
func TestFirstFailureIsKept(t *testing.T) {
	s, _ := newSet(t, nil)
	if err := s.FirstFailure(); err != nil {
		t.Error(err)
	}
	first := errors.New("first")
	s.NoteFailure(first)
	s.NoteFailure(errors.New("second"))
	if err := s.FirstFailure(); err != first {
		t.Error(err)
	}
}

// Where upgrades are not supported, a set can listen too. It makes no duplicates, and has no socket to store.
func TestSetWorksWithoutUpgrades(t *testing.T) {
	s, ln := testListener(t)
	c := listenPacket(t, s, "udp", "127.0.0.1:0")
	for _, r := range s.Refs() {
		if f := r.Storable(); f != nil || r.fd >= 0 {
			t.Errorf("%s %s: descriptor %d, storable %v", r.Network, r.Addr, r.fd, f)
		}
	}
	s.Open(true)
	dial(t, ln)
	accept(t, ln)
	if err := errors.Join(ln.Close(), c.Close()); err != nil || len(s.Refs()) > 0 {
		t.Errorf("%v, still open: %q", err, names(s))
	}
}

// The second Close of a listener returns an error, as in package net.
func TestSecondCloseIsAnError(t *testing.T) {
	s, _ := newSet(t, nil)
	ln, c := listen(t, s, "tcp", "127.0.0.1:0", false), listenPacket(t, s, "udp", "127.0.0.1:0")
	if err := errors.Join(ln.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{ln.Close(), c.Close()} {
		if !errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "upgrade") {
			t.Error(err)
		}
	}
}

// Between Hold and resume no socket accepts, even after a call of Open, and even if it was opened after Hold. After resume, the
// calls of Open and Pause decide.
func TestHeldSetAcceptsNothing(t *testing.T) {
	s, _ := newSet(t, nil)
	isOpen := func(want ...bool) {
		t.Helper()
		var got []bool
		for _, r := range s.Refs() {
			got = append(got, r.gate.isOpen())
		}
		if !slices.Equal(got, want) {
			t.Errorf("open: %v, want %v", got, want)
		}
	}
	listen(t, s, "tcp", "127.0.0.1:0", false)
	listen(t, s, "tcp", "127.0.0.1:0", true)
	s.Open(true)
	resume := s.Hold()
	again := s.Hold()
	isOpen(false, false)
	s.Open(true)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	isOpen(false, false, false)
	resume()
	isOpen(false, false, false)
	s.Pause(false)
	again()
	isOpen(false, true, false)
	s.Open(false)
	isOpen(true, true, true)
	s.ReleaseAll()
}
