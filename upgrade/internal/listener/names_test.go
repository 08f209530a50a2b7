//go:build unix

package listener

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Of finds the listener that has accepted a connection, also if the listener is closed. The listener may have a specific
// address, a wildcard address or a unix path.
func TestConnectionsBelongToTheirListener(t *testing.T) {
	s, _ := newSet(t, nil)
	s.Open(true)
	path := socketPath(t)
	listeners := []net.Listener{
		listen(t, s, "tcp", "127.0.0.1:0", false), listen(t, s, "tcp", ":0", false), listen(t, s, "tcp4", ":0", false),
		listen(t, s, "tcp", "127.0.0.1:0", true), listen(t, s, "unix", path, false), listen(t, s, "unix", path+"2", false),
	}
	want := s.Refs()
	var conns []net.Conn
	for _, ln := range listeners {
		dial(t, ln)
		conns = append(conns, accept(t, ln))
	}
	check := func(when string) {
		for i, c := range conns {
			o, ok := s.Of(c)
			if !ok || o.Network != want[i].Network || o.Addr != want[i].Addr || o.Pinned != want[i].pinned {
				t.Errorf("%s: the connection of %s %s belongs to %+v, %v", when, want[i].Network, want[i].Addr, o, ok)
			}
		}
	}
	check("open")
	for _, ln := range listeners {
		ln.Close()
	}
	check("closed")
	foreign, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if o, ok := s.Of(dial(t, foreign)); ok {
		t.Errorf("a connection of nobody here belongs to %+v", o)
	}
}

// If IPv4 and IPv6 have a wildcard listener each on the same port, a connection belongs to the listener of its family.
func TestWildcardOfTheOtherFamilyHasAcceptedNothing(t *testing.T) {
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	probe.Close()
	for _, networks := range [][]string{{"tcp4", "tcp6"}, {"tcp6", "tcp4"}} {
		s, _ := newSet(t, nil)
		s.Open(true)
		first := listen(t, s, networks[0], ":0", false)
		_, port, err := net.SplitHostPort(first.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		second, err := s.Listen(networks[1], ":"+port, false)
		if err != nil {
			t.Skipf("the port is taken in the other family: %v", err)
		}
		t.Cleanup(func() { second.Close() })
		for i, ln := range []net.Listener{first, second} {
			c, err := net.Dial(networks[i], net.JoinHostPort(map[string]string{"tcp4": "127.0.0.1", "tcp6": "::1"}[networks[i]], port))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if o, ok := s.Of(accept(t, ln)); !ok || o.Network != networks[i] {
				t.Errorf("a connection of %s belongs to %+v, %v", networks[i], o, ok)
			}
		}
	}
}

// If a listener was closed and another listener has the address now, a connection belongs to the last listener. A name is noted
// only once.
func TestReopenedListenerIsTheOneThatAccepts(t *testing.T) {
	s, _ := newSet(t, nil)
	s.Open(true)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	addr := ln.Addr().String()
	for range 3 {
		ln.Close()
		ln = listen(t, s, "tcp", addr, true)
	}
	dial(t, ln)
	if o, ok := s.Of(accept(t, ln)); !ok || o.Addr != addr || !o.Pinned || len(s.origins.known) != 2 {
		t.Errorf("%+v, %v, and %d names are remembered", o, ok, len(s.origins.known))
	}
}

// A connection from another generation belongs to the listener with the name that came with the connection. The address of this
// listener does not matter.
func TestMovedConnectionsBelongToTheirName(t *testing.T) {
	s, _ := newSet(t, nil)
	s.Open(true)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	other := listen(t, s, "tcp", "127.0.0.1:0", true)
	dial(t, other)
	c := accept(t, other)
	if o, ok := s.Of(&movedConn{Conn: c, network: "tcp", addr: "127.0.0.1:0"}); !ok || o.Addr != "127.0.0.1:0" || o.Pinned {
		t.Errorf("%+v, %v", o, ok)
	}
	if o, ok := s.Of(&movedConn{Conn: c, network: "tcp", addr: "127.0.0.1:1"}); ok {
		t.Errorf("a name that nobody has is %+v", o)
	}
}

// Find returns the listener with the given name. For the empty name it returns the first listener that is not pinned. Otherwise
// it returns an error with the name. A packet connection does not count as a listener.
func TestFindKnowsOpenListeners(t *testing.T) {
	s, _ := newSet(t, nil)
	listenPacket(t, s, "udp", "127.0.0.1:0")
	listen(t, s, "tcp", "127.0.0.1:0", true)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	listen(t, s, "tcp", "127.0.0.1:0", false).Close()
	for _, c := range []struct{ network, addr, want, refuse string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1:0", ""},
		{"tcp", "127.0.0.1:0#pinned", "127.0.0.1:0#pinned", ""},
		{"", "", "127.0.0.1:0", ""},
		{"tcp", "127.0.0.1:0#2", "", "there is no listener tcp 127.0.0.1:0#2"},
		{"unix", "127.0.0.1:0", "", "there is no listener unix 127.0.0.1:0"},
		{"udp", "127.0.0.1:0", "", "there is no listener udp 127.0.0.1:0"},
	} {
		got, refused := "", ""
		r, err := s.Find(c.network, c.addr)
		if err != nil {
			refused = err.Error()
		} else {
			got = r.Addr
		}
		if got != c.want || refused != c.refuse {
			t.Errorf("%s %s: %q, %q, want %q, %q", c.network, c.addr, got, refused, c.want, c.refuse)
		}
	}
	want := []wire.SocketName{{Kind: "listener", Network: "tcp", Addr: "127.0.0.1:0#pinned"}, {Kind: "listener", Network: "tcp", Addr: "127.0.0.1:0"}}
	if got := s.Takes().Listeners; !slices.Equal(got, want) {
		t.Errorf("the listeners are %+v, want %+v", got, want)
	}
}

// After Give, the listener accepts the private connection next, even if the gate is shut. Give does not close the file.
func TestPrivateConnectionIsAccepted(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	near, file, err := sys.UnixPair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	if err := s.Give("", "", file); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Errorf("the file was closed: %v", err)
	}
	c := accept(t, ln)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(near, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}

// Give returns an error for a file that is no connection, and for a listener that does not exist. After an error it keeps no
// descriptor.
func TestWhatCannotBeGivenIsRefused(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := s.Give("", "", null); err == nil {
		t.Error("a file is accepted")
	}
	near, file, err := sys.UnixPair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	if err := s.Give("tcp", "127.0.0.1:1", file); err == nil || !strings.Contains(err.Error(), "there is no listener") {
		t.Error(err)
	}
	ln.Close()
	s.mu.Lock()
	// The closed listener is in the set again, as between the two steps of Close.
	s.all.add(&Socket{kind: "listener", Network: "tcp", gate: ln.(*listener).ref.gate, fd: -1})
	s.mu.Unlock()
	if err := s.Give("", "", file); err == nil || !strings.Contains(err.Error(), "does not accept") {
		t.Error(err)
	}
	file.Close()
	if err := near.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("somebody still has the connection: %v", err)
	}
}

// Paths returns the names of the open unix sockets that have a path, listeners and packet connections.
func TestPathsAreThoseOfUnixSockets(t *testing.T) {
	s, _ := newSet(t, nil)
	path := socketPath(t)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	listen(t, s, "unix", path, false)
	listen(t, s, "unix", path+"x", false).Close()
	listenPacket(t, s, "unixgram", path+"g")
	want := []wire.SocketName{{Kind: "listener", Network: "unix", Addr: path}, {Kind: "packet", Network: "unixgram", Addr: path + "g"}}
	if got := s.Paths(); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
