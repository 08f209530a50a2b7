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

// pairs returns n connections between two ends in this test. They are closed at the end of the test.
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

// offer calls decide for each connection, and then the function each with the result. It receives the connections that are
// passed.
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

// dispatch calls Dispatch for an accepted connection.
func (e *exchange) dispatch(c net.Conn) bool { return e.dispatcher.Dispatch(e.old.Refs()[0], c) }

// move calls Move for an idle connection.
func (e *exchange) move(c net.Conn) bool { return e.dispatcher.Move(e.ref, c, nil) }

// At every moment the candidate has its share of the new connections, to within one connection. This also holds when the weight
// changes.
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

// A step to a higher weight moves a part of the old process's idle connections, so that the candidate has its share of all idle
// connections. A step to a lower weight moves none.
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

// If a connection cannot be passed, it stays, and the candidate gets one more connection later.
func TestConnectionThatCannotBePassedIsOwed(t *testing.T) {
	e := newExchange(t, nil)
	near, far := net.Pipe() // connections of net.Pipe have no descriptor
	defer near.Close()
	defer far.Close()
	e.dispatcher.SetWeight(0.5)
	e.dispatcher.fresh.place = 0.75
	var passed []bool
	note := func(p bool) { passed = append(passed, p) }
	conns := pairs(t, 3)
	e.offer([]net.Conn{conns[0], near}, e.dispatch, note)
	e.dispatcher.fresh.place = 0.75 // in the next block
	e.offer(conns[1:], e.dispatch, note)
	if want := []bool{false, false, true, true}; !slices.Equal(passed, want) {
		t.Errorf("passed %v, want %v", passed, want)
	}
	if e.dispatcher.Move(e.ref, near, nil) || e.kept() != 2 {
		t.Errorf("%d are kept", e.kept())
	}
}

// A passed connection is closed in the old process, and stays open for the client. The candidate accepts it from the listener
// of the same name. Assigned returns the unit and the weight in both processes.
func TestPassedConnectionIsServedByTheCandidate(t *testing.T) {
	e := newExchange(t, nil)
	e.old.SetDispatch(e.dispatcher.Dispatch)
	e.dispatcher.SetWeight(0.25)
	e.dispatcher.fresh.place = 0.3 // in the interval of the second connection
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
	alsoHere := e.accept(e.oldLn) // the third connection; the second one was passed
	c := e.take()
	if c.RemoteAddr().String() != second.LocalAddr().String() || alsoHere.RemoteAddr().String() != third.LocalAddr().String() {
		t.Errorf("the candidate has %v, want %v", c.RemoteAddr(), second.LocalAddr())
	}
	answers(t, second, c)
	answers(t, c, second)
	answers(t, here, first)
	network, addr := c.Origin()
	if network != "tcp" || addr != "127.0.0.1:0" || c.WasIdle() {
		t.Errorf("from %s %s, idle %v", network, addr, c.WasIdle())
	}
	mustBeAssigned(t, c, second.LocalAddr().String(), 0.25)
	mustBeAssigned(t, here, first.LocalAddr().String(), 0.25)
	if o, ok := e.candidate.Of(c); !ok || o.Addr != addr {
		t.Errorf("it belongs to %+v, %v", o, ok)
	}
}

// If Dispatch has passed a connection, the connection is closed in the old process.
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

// An idle connection moves with the bytes ahead. If there are no such bytes, WasIdle is true in the candidate. A connection of
// a pinned listener does not move.
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

// After Stop no connection is passed.
func TestStopEndsPassing(t *testing.T) {
	e := newExchange(t, nil)
	e.dispatcher.SetWeight(1)
	e.dispatcher.Stop()
	c := pairs(t, 1)[0]
	if e.dispatch(c) || e.move(c) {
		t.Error("a connection is passed")
	}
}

// GiveMoved returns an error if the listener of the connection is not open in this process. After the error it keeps no
// descriptor. It does not close the file.
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

// chosen returns an idle connection of the old process that the Dispatcher has chosen for the candidate at weight 1.
func (e *exchange) chosen() *offer {
	e.t.Helper()
	_, server := e.conn()
	o := &offer{conn: server, about: wire.ConnBody{Network: "tcp", Addr: "127.0.0.1:0", Idle: true}}
	if e.dispatcher.flow.load(o) != goes || o.open() != nil {
		e.t.Fatal("a connection is not sent at weight 1")
	}
	return o
}

// If the candidate does not take a chosen connection, the candidate gets the next one in its place. The slot and the descriptor
// are free then.
func TestConnectionThatIsNotTakenIsOwed(t *testing.T) {
	e := newExchange(t, nil)
	d := e.dispatcher
	d.SetWeight(1)
	o := e.chosen()
	slot := d.slots.at(o.about.Slot)
	if d.idle.lacks != 0 {
		t.Errorf("%d connections are owed while one is on its way", d.idle.lacks)
	}
	if (*moving)(d).landed(o, false) {
		t.Error("the connection has left")
	}
	if d.idle.lacks != 1 || slot.Load() != slotFree || o.file != nil {
		t.Errorf("%d connections are owed, slot %d, file %v", d.idle.lacks, slot.Load(), o.file)
	}
}

// An answer that comes after Settle gives the connection to the candidate, unless the candidate is dead.
func TestLateAnswerCountsIfTheCandidateLives(t *testing.T) {
	for _, dead := range []bool{false, true} {
		e := newExchange(t, nil)
		e.dispatcher.SetWeight(1)
		o := e.chosen()
		e.dispatcher.Settle(dead)
		if left := (*moving)(e.dispatcher).landed(o, true); left == dead || o.file != nil {
			t.Errorf("dead %v: left %v, file %v", dead, left, o.file)
		}
	}
}

// A connection that was chosen, and is not sent before a step to a lower weight, stays.
func TestChoiceEndsWithItsTurn(t *testing.T) {
	e := newExchange(t, nil)
	e.dispatcher.SetWeight(1)
	o := e.chosen()
	defer o.close()
	slot := e.dispatcher.slots.at(o.about.Slot)
	e.dispatcher.SetWeight(0.5)
	if e.dispatcher.flow.load(o) != stays || slot.Load() != slotFree {
		t.Errorf("the connection is still chosen; slot %d", slot.Load())
	}
}
