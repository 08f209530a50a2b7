package handoff

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// options returns the socket options that package net sets when it makes a connection from a descriptor.
func options(t *testing.T, c net.Conn) (all []int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		for _, o := range [][2]int{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_NODELAY}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
		} {
			v, err := unix.GetsockoptInt(int(fd), o[0], o[1])
			if err != nil {
				t.Error(err)
			}
			all = append(all, min(v, 1000)) // a flag that is set may be any number but 0
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A program that calls Accept gets a connection as from package net: it has the same type and the same options, and Close ends
// it for the client, although the old process had a descriptor too. Assigned returns what the old process has sent about the
// connection.
func TestPassedConnectionIsNets(t *testing.T) {
	e := newExchange(t, nil)
	client, server := e.conn()
	tcp := server.(*net.TCPConn)
	if err := errors.Join(tcp.SetNoDelay(false), tcp.SetKeepAlivePeriod(77*time.Second), tcp.SetKeepAlive(false)); err != nil {
		t.Fatal(err)
	}
	before := options(t, server)
	e.dispatcher.SetWeight(0.5)
	for range 2 {
		if e.dispatcher.Dispatch(e.old.Refs()[0], server) {
			break
		}
	}
	about, f := e.next(e.parent)
	if err := GiveMoved(e.candidate, about, f.Files[0], e.sharing); err != nil {
		t.Fatal(err)
	}
	f.Close()
	c, err := e.candLn.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if after := options(t, c); !slices.Equal(after, before) {
		t.Errorf("options %v, and %v before", after, before)
	}
	if mustBeAssigned(t, c, client.LocalAddr().String(), 0.5); Carries(c) {
		t.Error("it came with bytes")
	}
	if got := e.dispatcher.slots.at(about.Slot).Load(); got != slotOwned {
		t.Errorf("the slot says %d", got)
	}
	if e.dispatcher.Sweep(); e.kept() != 0 {
		t.Error("the old process has a descriptor")
	}
	if c.Close(); !ended(client) {
		t.Error("the client does not see the end")
	}
}

// If a candidate dies, only the connections that its program has got from Accept are lost. The old process serves the passed
// connections that the program has not accepted.
func TestOnlyAcceptedConnectionsDieWithACandidate(t *testing.T) {
	e := newExchange(t, nil)
	clients := make([]*net.TCPConn, 2)
	for i := range clients {
		var server net.Conn
		clients[i], server = e.conn()
		e.dispatcher.SetWeight(1)
		if !e.dispatcher.Dispatch(e.old.Refs()[0], server) {
			t.Fatal("it is not passed")
		}
		about, f := e.next(e.parent)
		if err := GiveMoved(e.candidate, about, f.Files[0], e.sharing); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	c, err := e.candLn.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close() // closed at the death of the process
	if lost := e.dispatcher.Settle(true); lost != 0 || !ended(clients[0]) {
		t.Errorf("%d are lost", lost)
	}
	answers(t, clients[1], e.accept(e.oldLn))
}

// A connection with bytes ahead is passed only to a listener whose program has called AcceptMoved.
func TestBytesAheadGoToAServerThatReadsThem(t *testing.T) {
	e := newExchange(t, nil)
	client, server := e.conn()
	name := wire.SocketName{Kind: "listener", Network: "tcp", Addr: "127.0.0.1:0"}
	for _, takes := range []Takes{nil, {}, {name: false}} {
		e.dispatcher.takes = takes
		e.dispatcher.SetWeight(0)
		e.dispatcher.SetWeight(1)
		if e.dispatcher.Move(e.ref, server, []byte("ahead")) || NewReturner(e.parent, takes, nil, 1, 0, nil).Move(e.ref, server, []byte("ahead")) ||
			NewSuccessor(e.link, takes, nil).Move(e.ref, server, []byte("ahead")) {
			t.Fatalf("%v: it moves", takes)
		}
	}
	answers(t, client, server)
	if !NewSuccessor(e.link, Takes{name: false}, nil).Move(e.ref, server, nil) {
		t.Error("without such bytes it does not move")
	}
	about, f := e.next(e.parent)
	if about.Ahead = []byte("ahead"); GiveMoved(e.candidate, about, f.Files[0], nil) != nil {
		t.Fatal("the listener does not take it")
	}
	f.Close()
	if err := e.candLn.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := e.candLn.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Accept: %v, %v", c, err)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client: %v", err)
	}
}

// When a connection is garbage-collected, its entry in known is removed.
func TestNothingIsKnownOfAConnectionThatIsGone(t *testing.T) {
	left := func() (n int) {
		known.Range(func(_, _ any) bool { n++; return true })
		return n
	}
	before := left()
	for _, c := range []net.Conn{new(net.TCPConn), new(net.UnixConn)} {
		remember(c, wire.ConnBody{Ahead: []byte("ahead")}, nil)
		assign(c, "a unit", 0.5, newTurn(1))
		assign(c, "a unit", 0.25, newTurn(2))
		if mustBeAssigned(t, c, "a unit", 0.25); !Carries(c) {
			t.Error("it is not known that it came with bytes")
		}
	}
	for limit := time.Now().Add(waitLimit); left() > before; runtime.GC() {
		if time.Now().After(limit) {
			t.Fatalf("%d are known, and %d before", left(), before)
		}
	}
}
