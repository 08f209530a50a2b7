package handoff

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// waitLimit is how long a test waits for an event that must come.
const waitLimit = 10 * time.Second

// exchange has an old process and its candidate, both in the process of the test. Between them are a control socket and shared
// memory.
type exchange struct {
	t testing.TB

	old, candidate   *listener.Set
	oldLn, candLn    net.Listener
	link, parent     *wire.Link // link is the old process's end, parent is the candidate's end
	dispatcher       *Dispatcher
	sharing          *Sharing
	takes            Takes // the Takes of both processes
	ref, pinnedByOld listener.Origin
}

// newExchange begins an exchange at weight 0. The test fails if more descriptors are open at its end than now.
func newExchange(t testing.TB, choose Choice) *exchange {
	t.Helper()
	keepsNothing(t)
	e := &exchange{t: t}
	e.old, e.oldLn = newSet(t)
	e.candidate, e.candLn = newSet(t)
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	e.link, e.parent = newLink(t, ours), newLink(t, theirs)
	greet(t, e.link, e.parent)
	greet(t, e.parent, e.link)
	slots, err := NewSlots()
	if err != nil {
		t.Fatal(err)
	}
	if e.sharing, err = NewSharing(slots.File); err != nil {
		t.Fatal(err)
	}
	e.takes = Takes{wire.SocketName{Kind: "listener", Network: "tcp", Addr: "127.0.0.1:0"}: true}
	e.dispatcher = NewDispatcher(e.old, e.link, choose, false, e.takes, slots, nil)
	t.Cleanup(func() { e.dispatcher.Settle(false) })
	e.ref = listener.Origin{Network: "tcp", Addr: "127.0.0.1:0"}
	e.pinnedByOld = listener.Origin{Network: "tcp", Addr: "127.0.0.1:0", Pinned: true}
	return e
}

// keepsNothing fails the test if more descriptors are open at its end than now.
func keepsNothing(t testing.TB) {
	t.Helper()
	before := testutil.OpenFDs()
	t.Cleanup(func() {
		if after := testutil.OpenFDs(); len(after) > len(before) {
			t.Errorf("open descriptors: %q, before the test: %q", after, before)
		}
	})
}

// newSet returns the set of a process that serves, and its only listener.
func newSet(t testing.TB) (*listener.Set, net.Listener) {
	t.Helper()
	s := listener.New(nil, func(net.Conn) bool { return false })
	ln, err := s.Listen("tcp", "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	s.Open(true)
	t.Cleanup(func() { ln.Close() })
	return s, ln
}

// newLink returns the link over a control socket, which is closed at the end of the test.
func newLink(t testing.TB, file *os.File) *wire.Link {
	t.Helper()
	socket, err := wire.NewSocket(file)
	if err != nil {
		t.Fatal(err)
	}
	l := wire.NewLink(socket)
	t.Cleanup(l.Close)
	return l
}

// greet sends a message, so that the receiver knows that the sender answers SendConns.
func greet(t testing.TB, from, to *wire.Link) {
	t.Helper()
	if err := from.Send(wire.KindBeat, nil); err != nil {
		t.Fatal(err)
	}
	f := <-to.Frames
	f.Close()
}

// conn returns both ends of a connection that the old process has accepted.
func (e *exchange) conn() (client *net.TCPConn, server net.Conn) {
	e.t.Helper()
	c, err := net.Dial("tcp", e.oldLn.Addr().String())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		e.t.Fatal(err)
	}
	return c.(*net.TCPConn), e.accept(e.oldLn)
}

// accept returns the next connection of a listener, which is closed at the end of the test.
func (e *exchange) accept(ln net.Listener) net.Conn {
	e.t.Helper()
	if err := ln.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(waitLimit)); err != nil {
		e.t.Fatal(err)
	}
	c, err := ln.(interface{ AcceptMoved() (net.Conn, error) }).AcceptMoved()
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { Bare(c).Close() })
	return c
}

// next returns the next connection that comes over a link: its ConnBody and the frame. The frame is closed at the end of the
// test.
func (e *exchange) next(l *wire.Link) (wire.ConnBody, wire.Frame) {
	e.t.Helper()
	var about wire.ConnBody
	select {
	case f, ok := <-l.Frames:
		if err := f.Decode(&about); err != nil || !ok || f.Kind != wire.KindConn || len(f.Files) != 1 {
			e.t.Fatalf("%v with %d files came, %v", f.Kind, len(f.Files), err)
		}
		e.t.Cleanup(f.Close)
		return about, f
	case <-time.After(waitLimit):
		e.t.Fatal("nothing came")
	}
	return about, wire.Frame{}
}

// pass passes a new connection to the candidate, which accepts the connection.
func (e *exchange) pass() (client *net.TCPConn, c *Conn) {
	e.t.Helper()
	client, server := e.conn()
	before := e.dispatcher.SetWeight(1)
	if !e.dispatcher.Dispatch(e.old.Refs()[0], server) {
		e.t.Fatal("a connection is not passed at weight 1")
	}
	e.dispatcher.SetWeight(before)
	return client, e.take()
}

// take makes the candidate accept the connection that has come.
func (e *exchange) take() *Conn {
	e.t.Helper()
	about, f := e.next(e.parent)
	if err := GiveMoved(e.candidate, about, f.Files[0], e.sharing); err != nil {
		e.t.Fatal(err)
	}
	f.Close()
	return e.accept(e.candLn).(*Conn)
}

// state returns the state in the slot of a connection.
func (e *exchange) state(c *Conn) uint32 { return e.dispatcher.slots.at(c.about.Slot).Load() }

// kept returns how many passed connections the old process keeps a descriptor of.
func (e *exchange) kept() int {
	e.dispatcher.mu.Lock()
	defer e.dispatcher.mu.Unlock()
	return len(e.dispatcher.passed)
}

// answers fails the test unless to reads the bytes that from writes.
func answers(t testing.TB, from io.Writer, to io.Reader) {
	t.Helper()
	const text = "an answer"
	if _, err := io.WriteString(from, text); err != nil {
		t.Errorf("write: %v", err)
		return
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(to, b); err != nil || string(b) != text {
		t.Errorf("read %q, %v", b, err)
	}
}

// ended reports whether the client reads the end of its connection.
func ended(client net.Conn) bool {
	_, err := client.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}
