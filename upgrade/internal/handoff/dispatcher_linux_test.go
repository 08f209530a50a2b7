package handoff

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"testing"
	"time"

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

// A choice of the program decides in place of counting, about new connections and idle ones, and learns the weight.
func TestChoiceDecidesInPlaceOfCounting(t *testing.T) {
	conns := pairs(t, 6)
	var asked []float64
	e := newExchange(t, func(c net.Conn, weight float64) bool {
		asked = append(asked, weight)
		return slices.Index(conns, c)%3 == 0
	})
	e.dispatcher.SetWeight(0.01)
	for i, decide := range []func(net.Conn) bool{e.dispatch, e.move} {
		var passed []bool
		e.offer(conns[3*i:3*i+3], decide, func(p bool) { passed = append(passed, p) })
		if !slices.Equal(passed, []bool{true, false, false}) {
			t.Errorf("passed %v", passed)
		}
	}
	if !slices.Equal(asked, slices.Repeat([]float64{0.01}, 6)) {
		t.Errorf("asked with the weights %v", asked)
	}
}

// A choice is not asked at weight 0, and its panic is a no.
func TestChoiceThatPanicsSaysNo(t *testing.T) {
	asked := 0
	e := newExchange(t, func(net.Conn, float64) bool { asked++; panic("fell over") })
	c := pairs(t, 1)[0]
	for want, weight := range []float64{0, 0.5} {
		if e.dispatcher.SetWeight(weight); e.dispatch(c) || e.move(c) || asked != 2*want {
			t.Errorf("weight %v: it is passed, or asked about %d times", weight, asked)
		}
	}
}

// A choice that does not return holds up the connection that it is about, and nothing else: the owner of the attempt can take each of
// its steps meanwhile, and after Stop the choice is too late.
func TestChoiceThatHangsHoldsNobodyUp(t *testing.T) {
	for name, offer := range map[string]func(e *exchange, c net.Conn) bool{"new": (*exchange).dispatch, "idle": (*exchange).move} {
		t.Run(name, func(t *testing.T) {
			asked, answer := make(chan struct{}), make(chan struct{})
			e := newExchange(t, func(net.Conn, float64) bool { close(asked); <-answer; return true })
			e.dispatcher.SetWeight(0.5)
			_, server := e.conn()
			passed := make(chan bool)
			go func() { passed <- offer(e, server) }() // ends with the answer
			<-asked
			done := make(chan struct{})
			go func() { // ends at once
				defer close(done)
				e.dispatcher.SetWeight(0.7)
				e.dispatcher.Sweep()
				e.dispatcher.Returned(wire.ConnBody{Slot: 1}, true)
				e.dispatcher.Stop()
			}()
			select {
			case <-done:
			case <-time.After(waitLimit):
				t.Error("the owner waits for the choice")
			}
			close(answer)
			if <-done; <-passed {
				t.Error("a connection is passed after Stop")
			}
		})
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

// When the candidate is dead, a connection that it has neither read from nor written to is served here, and its client
// notices nothing. One that the candidate has touched ends.
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
			conn.Conn.Close() // the candidate is dead
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

// After a commit nothing is taken back but what the candidate has refused, and the candidate's connections go on.
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

// Settle counts the connections that cannot be served any more, and closes them.
func TestSettleCountsWhatIsLost(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	c.Conn.Close()
	e.oldLn.Close()
	if lost := e.dispatcher.Settle(true); lost != 1 || !ended(client) {
		t.Errorf("%d are lost, want 1", lost)
	}
}

// Sweep serves what the candidate has refused, drops what it has closed, and leaves the rest.
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

// What was refused and cannot be served at the moment is served in a later sweep.
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

// What the candidate sends back is no longer kept if it is served here. If it is not, the descriptor that is kept is served
// in a sweep, with what the candidate has sent along. Nothing is known of a connection that was not passed.
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

// Without a free slot, or without a candidate, nothing is passed: the connection stays, and no slot is used up.
func TestPassingNeedsASlotAndACandidate(t *testing.T) {
	e := newExchange(t, nil)
	_, server := e.conn()
	e.dispatcher.SetWeight(1)
	for slot := 1; slot < slotCount; slot++ {
		e.dispatcher.slots.at(slot).Store(slotActive)
	}
	if e.dispatch(server) {
		t.Error("it is passed without a slot")
	}
	e.dispatcher.slots.at(7).Store(slotFree)
	e.parent.Close()
	if e.dispatch(server) || e.dispatcher.slots.at(7).Load() != slotFree {
		t.Error("it is passed to nobody, or a slot is used up")
	}
	if err := server.(*net.TCPConn).SetNoDelay(true); err != nil {
		t.Errorf("it is closed: %v", err)
	}
}

// Slots are used in turn, so that a late word about a connection that has gone meets no other one.
func TestSlotsAreUsedInTurn(t *testing.T) {
	e := newExchange(t, nil)
	_, first := e.pass()
	first.Close()
	e.dispatcher.Sweep()
	_, second := e.pass()
	e.dispatcher.next = slotCount - 1
	_, third := e.pass()
	if a, b, c := first.about.Slot, second.about.Slot, third.about.Slot; a != 1 || b != 2 || c != 1 {
		t.Errorf("slots %d, %d, %d", a, b, c)
	}
}

// The memory of the slots is of a fixed size: another file is refused. It has no slot 0 and none beyond its end.
func TestForeignMemoryIsRefused(t *testing.T) {
	f, err := sys.MemFile("midair-test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s, err := NewSharing(f); err == nil || err.Error() != fmt.Sprintf("shared memory of 0 bytes, want %d", slotCount*4) {
		t.Errorf("%v, %v", s, err)
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if s, err := NewSharing(closed); err == nil {
		t.Errorf("a closed file: %v", s)
	}
	s, err := NewSlots()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.at(0) != nil || s.at(-1) != nil || s.at(slotCount) != nil || s.at(1) == nil || s.at(slotCount-1) == nil {
		t.Error("the slots are not those from 1 to the last")
	}
	var none *Slots
	if none.Close(); none.at(1) != nil {
		t.Error("no memory has a slot")
	}
}

// A sharing that is nil has nobody at the other end, and a connection without a slot has nobody to go back to.
func TestNobodyKeepsWhatHasNoSlot(t *testing.T) {
	var none *Sharing
	if none.End(); none.Refuse(1) {
		t.Error("a connection is kept by nobody")
	}
	if e := newExchange(t, nil); e.sharing.Refuse(0) || e.sharing.Refuse(slotCount) {
		t.Error("a connection without a slot is kept")
	}
}

// addressed is a connection of a client with that address.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }

// ByAddress keeps an address on one side whatever its port is, and who is in a small share is in every greater one; the
// shares are those of the addresses.
func TestByAddressGrowsWithTheWeight(t *testing.T) {
	weights := []float64{0, 0.01, 0.05, 0.25, 0.5, 0.9, 1}
	const n = 2000
	in := make([]int, len(weights))
	for i := range n {
		ip, was := net.IPv4(192, 0, byte(i>>8), byte(i)), false
		for k, w := range weights {
			is := ByAddress(addressed{addr: &net.TCPAddr{IP: ip, Port: 1}}, w)
			if other := ByAddress(addressed{addr: &net.TCPAddr{IP: ip, Port: 1000 + k}}, w); other != is {
				t.Fatalf("%v changes sides with its port at %v", ip, w)
			}
			if was && !is {
				t.Fatalf("%v leaves the share at %v", ip, w)
			}
			if was = is; is {
				in[k]++
			}
		}
	}
	for k, w := range weights {
		if got := float64(in[k]) / n; math.Abs(got-w) > 0.04 {
			t.Errorf("weight %v: %v of the addresses", w, got)
		}
	}
	if in[0] != 0 || in[len(in)-1] != n {
		t.Errorf("%d at weight 0, %d at weight 1", in[0], in[len(in)-1])
	}
}

// A client without an address is one client, and one with a path is what the path says.
func TestUnitOfAClient(t *testing.T) {
	for _, c := range []struct {
		addr net.Addr
		want string
	}{
		{nil, ""},
		{&net.UnixAddr{Name: "/run/client", Net: "unix"}, "/run/client"},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 80}, "::1"},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}, "192.0.2.1"},
	} {
		if got := unitOf(addressed{addr: c.addr}); got != c.want {
			t.Errorf("%v is %q, want %q", c.addr, got, c.want)
		}
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
