package handoff

import (
	"errors"
	"math"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// A step to a lower weight sends a part of the idle connections back, so that the candidate has its share afterwards. At weight
// 0 all idle connections go back. Connections of a pinned listener stay.
func TestStepDownReturnsItsPart(t *testing.T) {
	for _, c := range []struct{ from, to, part float64 }{
		{0.5, 0.25, 0.5}, {1, 0.9, 0.1}, {1, 0.3, 0.7}, {0.3, 0.2, 1. / 3}, {1, 0, 1}, {0.1, 0, 1}, {0, 0, 1}, {0.5, 0.5, 0},
	} {
		e := newExchange(t, nil)
		r := NewReturner(e.parent, e.takes, nil, c.from, c.to, nil)
		const n = 30
		returned := 0
		for _, conn := range pairs(t, n) {
			if r.Move(e.pinnedByOld, conn, nil) {
				t.Fatal("a connection of a pinned listener is sent back")
			}
			if !r.Move(e.ref, conn, nil) {
				continue
			}
			returned++
			if about, _ := e.next(e.link); about.Network != "tcp" || about.Addr != "127.0.0.1:0" || about.Slot != 0 || !about.Idle {
				t.Errorf("%+v", about)
			}
			if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a connection that was sent back is open here: %v", err)
			}
		}
		if want := c.part * n; math.Abs(want-float64(returned)) > 1e-6 {
			t.Errorf("from %v to %v: %d of %d, want %.2f", c.from, c.to, returned, n, want)
		}
	}
}

// With a Choice, the connections go back that the Choice does not give to the candidate at the lower weight. At weight 0 all
// idle connections go back.
func TestStepDownReturnsWhatIsNotChosen(t *testing.T) {
	for _, to := range []float64{0.25, 0} {
		e := newExchange(t, nil)
		conns := pairs(t, 4)
		r := NewReturner(e.parent, e.takes, func(c net.Conn, weight float64) bool {
			if weight != to {
				t.Errorf("asked about weight %v", weight)
			}
			return slices.Index(conns, c)%2 == 0
		}, 0.5, to, nil)
		var returned []bool
		for _, c := range conns {
			goes := r.Move(e.ref, c, nil)
			if goes {
				e.next(e.link)
			}
			returned = append(returned, goes)
		}
		if want := []bool{to == 0, true, to == 0, true}; !slices.Equal(returned, want) {
			t.Errorf("to %v: %v, want %v", to, returned, want)
		}
	}
}

// A connection goes back to the old process, which serves it and has one descriptor of it. From then on the candidate does not
// write to the slot. The client does not notice the move.
func TestConnectionGoesBackToWhereItCameFrom(t *testing.T) {
	for _, c := range []struct {
		name  string
		touch bool
		ahead string
		state uint32
	}{
		{"untouched", false, "", slotBack}, {"idle again", true, "", slotBack}, {"with bytes ahead", true, "so far", slotBack},
	} {
		e := newExchange(t, nil)
		client, conn := e.pass()
		if c.touch {
			answers(t, conn, client)
			conn.SetIdle()
		}
		if !NewReturner(e.parent, e.takes, nil, 1, 0, e.sharing).Move(e.ref, conn, []byte(c.ahead)) {
			t.Fatalf("%s: it stays", c.name)
		}
		about, f := e.next(e.link)
		if about.Slot != conn.about.Slot || about.Idle != (c.ahead == "") || string(about.Ahead) != c.ahead || e.state(conn) != c.state {
			t.Errorf("%s: %+v, the slot says %d", c.name, about, e.state(conn))
		}
		kept := conn.Kept()
		conn.SetIdle()
		conn.Close()
		if kept || e.state(conn) != c.state {
			t.Errorf("%s: kept %v, and the slot says %d", c.name, kept, e.state(conn))
		}
		if err := GiveMoved(e.old, about, f.Files[0], nil); err != nil {
			t.Fatal(err)
		}
		if !e.dispatcher.Returned(about, true) || e.kept() != 0 {
			t.Errorf("%s: %d are kept", c.name, e.kept())
		}
		back := e.accept(e.oldLn)
		if given := Unread(back); string(given) != c.ahead {
			t.Errorf("%s: it comes back with %q", c.name, given)
		}
		answers(t, back, client)
	}
}

// If the candidate dies just after it has sent a connection back, the connection is not lost, because the old process has its
// own descriptor.
func TestConnectionOnItsWayBackIsTakenBack(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	if !NewReturner(e.parent, e.takes, nil, 1, 0, e.sharing).Move(e.ref, c, nil) {
		t.Fatal("it stays")
	}
	_, f := e.next(e.link)
	f.Close() // the old process has not received the message
	if lost := e.dispatcher.Settle(true); lost != 0 {
		t.Errorf("%d are lost", lost)
	}
	answers(t, e.accept(e.oldLn), client)
}

// If an idle connection cannot be sent back, the candidate sets the slot to slotRefused, because the old process has a
// descriptor. If the connection is active, or the old process has no descriptor, the candidate still serves the connection.
func TestConnectionThatCannotBeSentStaysOrIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(e *exchange, client *net.TCPConn, c *Conn)
		goes   bool
		state  uint32
	}{
		{"untouched", func(*exchange, *net.TCPConn, *Conn) {}, true, slotRefused},
		{"touched", func(e *exchange, client *net.TCPConn, c *Conn) { answers(e.t, c, client) }, false, slotActive},
		{"the old process has ended", func(e *exchange, _ *net.TCPConn, _ *Conn) { e.sharing.End() }, false, slotIdle},
	} {
		e := newExchange(t, nil)
		client, conn := e.pass()
		c.before(e, client, conn)
		e.parent.Close()
		if got := NewReturner(e.parent, e.takes, nil, 1, 0, e.sharing).Move(e.ref, conn, nil); got != c.goes || e.state(conn) != c.state {
			t.Errorf("%s: %v, the slot says %d, want %d", c.name, got, e.state(conn), c.state)
		}
		if !c.goes {
			answers(t, conn, client)
			continue
		}
		e.dispatcher.Sweep()
		answers(t, e.accept(e.oldLn), client)
	}
}

// endingWire is a control socket whose other process ends during a send.
type endingWire struct {
	wiretest.Transport
	end func()
}

func (w *endingWire) TrySend([]byte, ...*os.File) error { return w.SendBy(nil, nil, time.Time{}) }
func (w *endingWire) SendBy([]byte, *os.File, time.Time) error {
	w.end()
	return syscall.EPIPE
}

// The candidate still serves a connection if the old process ends while the connection is sent back. The same holds if the old
// process has never had the connection.
func TestConnectionThatNobodyTakesStays(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	l := wire.NewLink(&endingWire{end: e.sharing.End})
	defer l.Close()
	if NewReturner(l, e.takes, nil, 1, 0, e.sharing).Move(e.ref, c, nil) || e.state(c) != slotIdle {
		t.Errorf("it is sent back to nobody, or the slot says %d", e.state(c))
	}
	answers(t, c, client)
	client, server := e.conn()
	if NewReturner(l, e.takes, nil, 1, 0, e.sharing).Move(e.ref, server, nil) {
		t.Error("a connection of this process is sent to nobody")
	}
	answers(t, server, client)
}

// Successor and SendLate pass a connection to the new process for ever, with its bytes ahead. They do not close the descriptor
// of the caller. They fail if the connection has no descriptor, or if the other process has ended.
func TestConnectionsAreSentForGood(t *testing.T) {
	e := newExchange(t, nil)
	client, server := e.conn()
	late, err := sys.ConnFile(server)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	to := newFlow(e.link, succeeding{}, nil)
	sendIdle := func(about wire.ConnBody, c net.Conn) bool {
		about.Idle = len(about.Ahead) == 0
		return to.move(c, about)
	}
	for _, c := range []struct {
		name, ahead string
		send        func(about wire.ConnBody) bool
		idle        bool
	}{
		{"idle", "", func(about wire.ConnBody) bool { return sendIdle(about, server) }, true},
		{"with bytes ahead", "so far", func(about wire.ConnBody) bool { return sendIdle(about, &Conn{Conn: server}) }, false},
		{"late", "", func(about wire.ConnBody) bool { return SendLate(e.link, about, late) }, false},
	} {
		if !c.send(wire.ConnBody{Network: "tcp", Addr: "127.0.0.1:0", Ahead: []byte(c.ahead)}) {
			t.Fatalf("%s: it is not sent", c.name)
		}
		about, f := e.next(e.parent)
		if about.Idle != c.idle || string(about.Ahead) != c.ahead || about.Slot != 0 {
			t.Errorf("%s: %+v", c.name, about)
		}
		if err := GiveMoved(e.candidate, about, f.Files[0], nil); err != nil {
			t.Fatal(err)
		}
		e.accept(e.candLn)
	}
	answers(t, server, client)
	if _, err := late.Stat(); err != nil {
		t.Errorf("the file of the caller is closed: %v", err)
	}
	if sendIdle(wire.ConnBody{}, near) {
		t.Error("a connection without a descriptor is sent")
	}
	e.parent.Close()
	if sendIdle(wire.ConnBody{}, server) || SendLate(e.link, wire.ConnBody{}, late) {
		t.Error("a connection is sent to nobody")
	}
}
