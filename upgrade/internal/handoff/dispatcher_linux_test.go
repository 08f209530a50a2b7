package handoff

import (
	"errors"
	"math"
	"net"
	"os"
	"slices"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// pairs returns that many connections, which have an end in this test only. They are closed at the end of the test.
func pairs(t testing.TB, n int) (all []net.Conn) {
	t.Helper()
	for range n {
		c, file, err := sys.UnixPair()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); file.Close() })
		all = append(all, c)
	}
	return all
}

// offer lets the old process decide on connections, calls each after each decision, and receives what is passed.
func (e *exchange) offer(conns []net.Conn, decide func(net.Conn) bool, each func(passed bool)) {
	e.t.Helper()
	for _, c := range conns {
		passed := decide(c)
		if passed {
			_, f := e.next(e.parent)
			f.Close()
		}
		each(passed)
	}
}

// dispatch decides on a connection that was accepted.
func (e *exchange) dispatch(c net.Conn) bool { return e.dispatcher.Dispatch(e.old.Refs()[0], c) }

// move decides on an idle connection.
func (e *exchange) move(c net.Conn) bool { return e.dispatcher.Move(e.ref, c, nil) }

// The candidate has exactly its share of the new connections, to within one connection at every moment, through changes of
// the weight too.
func TestShareIsExactToOneConnection(t *testing.T) {
	e := newExchange(t, nil)
	due, got := 0., 0
	for _, weight := range []float64{0, 0.1, 0.5, 1. / 3, 0.05, 0.999, 0, 0.25, 1, 0.01, 0.7} {
		from := e.dispatcher.Weight()
		if before := e.dispatcher.SetWeight(weight); before != from || e.dispatcher.Weight() != weight {
			t.Fatalf("the weight was %v, want %v; it is %v", before, from, e.dispatcher.Weight())
		}
		e.offer(pairs(t, 40), e.dispatch, func(passed bool) {
			due += weight
			if passed {
				got++
			}
			if math.Abs(due-float64(got)) > 1+1e-6 {
				t.Errorf("weight %v: %d connections, want %.2f", weight, got, due)
			}
			if weight == 0 && passed || weight == 1 && !passed {
				t.Errorf("weight %v: passed %v", weight, passed)
			}
		})
	}
}

// A step moves its part of the idle connections, so that the candidate has its share of those too: a step up of what is
// left to the old process, a step down nothing.
func TestStepMovesItsPartOfTheIdleConnections(t *testing.T) {
	for _, c := range []struct{ from, to, part float64 }{
		{0, 0.25, 0.25}, {0, 0.7, 0.7}, {0.25, 0.5, 1. / 3}, {0.5, 1, 1}, {0, 1, 1}, {0.5, 0.5, 0}, {0.5, 0.1, 0}, {1, 1, 0}, {1, 0, 0},
	} {
		e := newExchange(t, nil)
		e.dispatcher.SetWeight(c.from)
		e.dispatcher.SetWeight(c.to)
		moved := 0
		const n = 60
		e.offer(pairs(t, n), e.move, func(passed bool) {
			if passed {
				moved++
			}
		})
		if want := c.part * n; math.Abs(want-float64(moved)) > 1e-6 {
			t.Errorf("from %v to %v: %d of %d moved, want %.2f", c.from, c.to, moved, n, want)
		}
	}
}

// A connection that cannot be passed stays, and the candidate is owed one more.
func TestConnectionThatCannotBePassedIsOwed(t *testing.T) {
	e := newExchange(t, nil)
	near, far := net.Pipe() // without a descriptor
	defer near.Close()
	defer far.Close()
	e.dispatcher.SetWeight(0.5)
	var passed []bool
	conns := pairs(t, 5)
	e.offer([]net.Conn{conns[0], near, conns[1], conns[2], conns[3], conns[4]}, e.dispatch, func(p bool) { passed = append(passed, p) })
	if want := []bool{false, false, true, true, false, true}; !slices.Equal(passed, want) {
		t.Errorf("passed %v, want %v", passed, want)
	}
	if e.dispatcher.Move(e.ref, near, nil) || e.kept() != 3 {
		t.Errorf("%d are kept", e.kept())
	}
}

// A connection that was passed is closed here and not for its client, is accepted under the name of its listener there, and
// says what it was chosen for.
func TestPassedConnectionIsServedByTheCandidate(t *testing.T) {
	e := newExchange(t, nil)
	e.old.SetDispatch(e.dispatcher.Dispatch)
	e.dispatcher.SetWeight(0.5)
	first, err := net.Dial("tcp", e.oldLn.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	here := e.accept(e.oldLn)
	second, err := net.Dial("tcp", e.oldLn.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	third, err := net.Dial("tcp", e.oldLn.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	alsoHere := e.accept(e.oldLn) // behind the second, which is passed
	c := e.take()
	if c.RemoteAddr().String() != second.LocalAddr().String() || alsoHere.RemoteAddr().String() != third.LocalAddr().String() {
		t.Errorf("the candidate has %v, want %v", c.RemoteAddr(), second.LocalAddr())
	}
	answers(t, second, c)
	answers(t, c, second)
	answers(t, here, first)
	network, addr := c.Origin()
	unit, weight, ok := Assigned(c)
	if network != "tcp" || addr != "127.0.0.1:0" || unit != "127.0.0.1" || weight != 0.5 || !ok || c.WasIdle() {
		t.Errorf("from %s %s, unit %q, weight %v, %v, idle %v", network, addr, unit, weight, ok, c.WasIdle())
	}
	if o, ok := e.candidate.Of(c); !ok || o.Addr != addr {
		t.Errorf("it belongs to %+v, %v", o, ok)
	}
}

// The descriptor of the process that passes a connection is closed, whatever becomes of the candidate.
func TestPassedConnectionIsClosedHere(t *testing.T) {
	e := newExchange(t, nil)
	_, server := e.conn()
	e.dispatcher.SetWeight(1)
	if !e.dispatch(server) {
		t.Fatal("it is not passed")
	}
	if _, err := server.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it is open: %v", err)
	}
}

// An idle connection moves with the bytes that were read ahead, and is idle there without any. A pinned one does not move.
func TestIdleConnectionMovesWithItsBytes(t *testing.T) {
	e := newExchange(t, nil)
	e.dispatcher.SetWeight(1)
	for _, ahead := range []string{"", "GET / HT"} {
		client, server := e.conn()
		if e.dispatcher.Move(e.pinnedByOld, server, []byte(ahead)) {
			t.Fatal("a connection of a pinned listener moves")
		}
		if !e.dispatcher.Move(e.ref, server, []byte(ahead)) {
			t.Fatal("it does not move")
		}
		c := e.take()
		if left := Unread(c); string(left) != ahead || Carries(c) != (ahead != "") || c.WasIdle() != (ahead == "") {
			t.Errorf("left %q, carries %v, idle %v; want %q", left, Carries(c), c.WasIdle(), ahead)
		}
		b := make([]byte, len(ahead)+9)
		if _, err := c.Write(b[:1]); err != nil {
			t.Error(err)
		}
		if _, err := client.Read(b[:1]); err != nil {
			t.Error(err)
		}
	}
}

// After Stop nothing is passed.
func TestStopEndsPassing(t *testing.T) {
	e := newExchange(t, nil)
	e.dispatcher.SetWeight(1)
	e.dispatcher.Stop()
	c := pairs(t, 1)[0]
	if e.dispatch(c) || e.move(c) {
		t.Error("a connection is passed")
	}
}

// GiveMoved refuses a connection of a listener that is not open here, keeps no descriptor of it, and leaves the file to the
// caller.
func TestGiveMovedNeedsTheListener(t *testing.T) {
	e := newExchange(t, nil)
	client, server := e.conn()
	file, err := sys.ConnFile(server)
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := GiveMoved(e.old, wire.ConnBody{Network: "tcp", Addr: "127.0.0.1:1"}, file, nil); err == nil {
		t.Error("it is accepted under another name")
	}
	if err := GiveMoved(e.old, wire.ConnBody{Network: "tcp", Addr: "127.0.0.1:0"}, null, nil); err == nil {
		t.Error("a file is accepted as a connection")
	}
	if err := file.Close(); err != nil || !ended(client) {
		t.Errorf("somebody still has the connection: %v", err)
	}
}
