package handoff

import (
	"errors"
	"net"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// If the candidate dies, the old process serves the connections that the candidate has neither read from nor written to. Their
// clients do not notice this. The other passed connections end.
func TestDeadCandidatesUntouchedConnectionsAreTakenBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		touch func(client *net.TCPConn, c *Conn) error
		back  bool
	}{
		{"untouched", func(*net.TCPConn, *Conn) error { return nil }, true},
		{"sent to, and not read from", func(client *net.TCPConn, _ *Conn) error { _, err := client.Write([]byte("x")); return err }, true},
		{"read from", func(client *net.TCPConn, c *Conn) error {
			_, err1 := client.Write([]byte("x"))
			_, err2 := c.Read(make([]byte, 1))
			return errors.Join(err1, err2)
		}, false},
		{"written to", func(client *net.TCPConn, c *Conn) error {
			_, err1 := c.Write([]byte("x"))
			_, err2 := client.Read(make([]byte, 1))
			return errors.Join(err1, err2)
		}, false},
		{"idle again", func(client *net.TCPConn, c *Conn) error {
			_, err1 := c.Write([]byte("x"))
			_, err2 := client.Read(make([]byte, 1))
			c.SetIdle()
			return errors.Join(err1, err2)
		}, true},
		{"closed", func(_ *net.TCPConn, c *Conn) error { return c.Close() }, false},
		{"abandoned", func(_ *net.TCPConn, c *Conn) error { c.Abandon(); return nil }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newExchange(t, nil)
			client, conn := e.pass()
			if err := c.touch(client, conn); err != nil {
				t.Fatal(err)
			}
			conn.Conn.Close() // the death of the candidate
			if lost := e.dispatcher.Settle(true); lost != 0 || e.kept() != 0 {
				t.Errorf("%d are lost, %d kept", lost, e.kept())
			}
			if !c.back {
				if !ended(client) {
					t.Error("somebody still has the connection")
				}
				return
			}
			answers(t, e.accept(e.oldLn), client)
		})
	}
}

// After a commit the old process takes back only the connections that the candidate has refused. The other connections stay
// open in the candidate.
func TestCommitLeavesConnectionsWithTheCandidate(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	refused, r := e.pass()
	r.Abandon()
	if lost := e.dispatcher.Settle(false); lost != 0 || e.kept() != 0 {
		t.Errorf("%d are lost, %d kept", lost, e.kept())
	}
	e.sharing.End()
	answers(t, c, client)
	answers(t, e.accept(e.oldLn), refused)
	c.Close()
	if !ended(client) {
		t.Error("the old process still has the connection")
	}
}

// Settle closes the connections that cannot be taken back, and returns their number.
func TestSettleCountsWhatIsLost(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	c.Conn.Close()
	e.oldLn.Close()
	if lost := e.dispatcher.Settle(true); lost != 1 || !ended(client) {
		t.Errorf("%d are lost, want 1", lost)
	}
}

// Sweep takes back the connections that the candidate has refused, drops the connections that it has closed, and does not
// change the others.
func TestSweepFollowsTheSlots(t *testing.T) {
	e := newExchange(t, nil)
	idle, i := e.pass()
	active, a := e.pass()
	answers(t, a, active)
	closed, c := e.pass()
	refused, about := e.refuse()
	c.Close()
	e.dispatcher.Sweep()
	answers(t, e.accept(e.oldLn), refused)
	if !ended(closed) || e.kept() != 2 || e.state(i) != slotIdle || e.state(a) != slotActive {
		t.Errorf("%d are kept, the slots say %d and %d", e.kept(), e.state(i), e.state(a))
	}
	for _, slot := range []int{c.about.Slot, about.Slot} {
		if got := e.dispatcher.slots.at(slot).Load(); got != slotFree {
			t.Errorf("the slot that is used no more says %d", got)
		}
	}
	answers(t, i, idle)
}

// refuse passes a connection that the candidate does not take.
func (e *exchange) refuse() (client *net.TCPConn, about wire.ConnBody) {
	e.t.Helper()
	client, server := e.conn()
	e.dispatcher.SetWeight(1)
	if !e.dispatch(server) {
		e.t.Fatal("it is not passed")
	}
	about, f := e.next(e.parent)
	f.Close()
	if !e.sharing.Refuse(about.Slot) {
		e.t.Error("the old process has kept no descriptor")
	}
	return client, about
}

// If a refused connection cannot be taken back now, a later Sweep takes it back.
func TestSweepTriesAgain(t *testing.T) {
	e := newExchange(t, nil)
	client, _ := e.refuse()
	e.oldLn.Close()
	for range 2 {
		if e.dispatcher.Sweep(); e.kept() != 1 {
			t.Fatalf("%d are kept", e.kept())
		}
	}
	ln, err := e.old.Listen("tcp", "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	e.dispatcher.Sweep()
	answers(t, e.accept(ln), client)
}

// If the old process serves a returned connection, it drops its own descriptor. Otherwise the next Sweep serves this
// descriptor, with the ConnBody that the candidate has sent. For a connection that was not passed, Returned returns false.
func TestReturnedConnectionIsServedOnce(t *testing.T) {
	for _, served := range []bool{true, false} {
		e := newExchange(t, nil)
		_, c := e.pass()
		if e.dispatcher.Returned(wire.ConnBody{Slot: c.about.Slot + 1}, served) || e.dispatcher.Returned(wire.ConnBody{}, served) {
			t.Error("another connection is kept")
		}
		about := c.about
		about.Ahead = []byte("so far")
		if !e.dispatcher.Returned(about, served) {
			t.Error("it is not kept")
		}
		e.dispatcher.Sweep()
		if e.kept() != 0 {
			t.Errorf("served %v: %d are kept", served, e.kept())
		}
		if served {
			continue
		}
		if given := Unread(e.accept(e.oldLn)); string(given) != "so far" {
			t.Errorf("it comes with %q", given)
		}
	}
}
