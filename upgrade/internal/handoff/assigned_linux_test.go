package handoff

import (
	"fmt"
	"math"
	"net"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// mustBeAssigned fails the test unless chance has assigned a connection in the present turn, with this unit and probability.
func mustBeAssigned(t testing.TB, c net.Conn, unit string, weight float64) {
	t.Helper()
	if u, w, ok := Assigned(c); !ok || u != unit || w != weight {
		t.Errorf("assigned: unit %q, weight %v, %v; want unit %q, weight %v", u, w, ok, unit, weight)
	}
}

// mustNotBeAssigned fails the test if chance has assigned a connection in the present turn.
func mustNotBeAssigned(t testing.TB, c net.Conn) {
	t.Helper()
	if u, w, ok := Assigned(c); ok || u != "" || w != 0 {
		t.Errorf("assigned: unit %q, weight %v, %v", u, w, ok)
	}
}

// fresh accepts a connection, as the server does, and returns its end in the process that has the connection afterwards.
func (e *exchange) fresh() (c net.Conn, canary bool) {
	e.t.Helper()
	_, c = e.conn()
	if e.dispatch(c) {
		return e.take(), true
	}
	return c, false
}

// offered offers an idle connection of the old process, and returns its end in the process that has the connection afterwards.
func (e *exchange) offered(c net.Conn) (after net.Conn, canary bool) {
	e.t.Helper()
	if e.move(c) {
		return e.take(), true
	}
	return c, false
}

// In both processes, Assigned returns the probability with which chance has decided about a connection: the weight for a new
// connection, and the part of the step for an idle one. The next turn ends what was assigned, and so does Stop.
func TestAssignmentLastsForATurn(t *testing.T) {
	e := newExchange(t, nil)
	_, older := e.conn()
	all := []net.Conn{older}
	before := 0.
	for _, weight := range []float64{0.25, 0.625, 0.5, 0.5, 0.75} {
		e.dispatcher.SetWeight(weight)
		for i, c := range all {
			mustNotBeAssigned(t, c)
			if _, ok := c.(*Conn); ok {
				continue
			}
			unit := c.RemoteAddr().String()
			if c, _ = e.offered(c); weight <= before {
				mustNotBeAssigned(t, c)
			} else {
				mustBeAssigned(t, c, unit, (weight-before)/(1-before))
			}
			all[i] = c
		}
		sides := map[bool]int{}
		for range 8 {
			c, canary := e.fresh()
			mustBeAssigned(t, c, c.RemoteAddr().String(), weight)
			mustBeAssigned(t, wrapped{c}, c.RemoteAddr().String(), weight)
			all, sides[canary] = append(all, c), sides[canary]+1
		}
		if sides[true] < 2 || sides[false] < 2 {
			t.Errorf("weight %v: %v", weight, sides)
		}
		before = weight
	}
	e.dispatcher.Stop()
	for _, c := range all {
		mustNotBeAssigned(t, c)
	}
}

// Chance decides about a connection once in a turn. If the server offers the connection again, it stays, and is not counted.
func TestConnectionIsDecidedOnceInATurn(t *testing.T) {
	for _, sticky := range []bool{false, true} {
		e := newExchange(t, nil)
		e.dispatcher.sticky = sticky
		e.dispatcher.SetWeight(0.1)
		e.dispatcher.idle.place, e.dispatcher.fresh.place = 0.999, 0.999
		server := e.connFrom(outside(0.1))
		e.dispatch(server)
		sum := e.dispatcher.idle.sum
		for range 5 {
			if e.move(server) || e.dispatcher.idle.sum != sum {
				t.Fatalf("sticky %v: it is decided again", sticky)
			}
		}
		_, older := e.conn()
		if e.move(older); sticky == (e.dispatcher.idle.sum != sum) {
			t.Errorf("sticky %v: the sum is %v after an idle connection, and %v before", sticky, e.dispatcher.idle.sum, sum)
		}
	}
}

// outside returns an address of this machine that is not in a share of the addresses.
func outside(weight float64) string {
	for i := byte(1); ; i++ {
		if ip := net.IPv4(127, 0, 1, i); !ByAddress(addressed{addr: &net.TCPAddr{IP: ip}}, weight) {
			return ip.String()
		}
	}
}

// connFrom returns a connection that the old process has accepted from an address of this machine.
func (e *exchange) connFrom(ip string) net.Conn {
	e.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", e.oldLn.Addr().String())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	return e.accept(e.oldLn)
}

// If a connection that was chosen cannot be passed, nothing is decided: the connection may be chosen again in the same turn. The
// connection that takes its place is not assigned by chance.
func TestFailedPassIsNoDecision(t *testing.T) {
	e := newExchange(t, nil)
	e.dispatcher.SetWeight(0.5)
	e.dispatcher.fresh.place, e.dispatcher.idle.place = 0.25, 0.25
	_, server := e.conn()
	for slot := 1; slot < slotCount; slot++ {
		e.dispatcher.slots.at(slot).Store(slotActive)
	}
	if e.dispatch(server) || e.move(server) {
		t.Fatal("it is passed without a slot")
	}
	mustNotBeAssigned(t, server)
	for slot := 1; slot < slotCount; slot++ {
		e.dispatcher.slots.at(slot).Store(slotFree)
	}
	for name, next := range map[string]func() (net.Conn, bool){
		"new":  e.fresh,
		"idle": func() (net.Conn, bool) { return e.offered(server) },
	} {
		c, canary := next()
		if mustNotBeAssigned(t, c); !canary {
			t.Errorf("%s: the candidate does not get the connection that it lacks", name)
		}
	}
	c, canary := e.fresh()
	if mustBeAssigned(t, c, c.RemoteAddr().String(), 0.5); !canary && e.dispatcher.fresh.lacks != 0 {
		t.Error("the candidate lacks a connection")
	}
}

// With Sticky the address is the unit, and the weight is the probability of new connections. About idle ones chance has decided
// before, when their address came first.
func TestStickyAssignsAddresses(t *testing.T) {
	e := newExchange(t, nil)
	e.dispatcher.sticky = true
	e.dispatcher.SetWeight(0.25)
	e.dispatcher.SetWeight(0.5)
	sides := map[bool]int{}
	for i := range 100 {
		ip := fmt.Sprintf("127.0.1.%d", 1+i)
		c, decide := e.connFrom(ip), e.dispatch
		if i%2 > 0 {
			decide = e.move
		}
		want := ByAddress(c, 0.5)
		goes := decide(c)
		if goes {
			c = e.take()
		}
		if i%2 > 0 {
			mustNotBeAssigned(t, c)
		} else {
			mustBeAssigned(t, c, ip, 0.5)
		}
		if goes != want {
			t.Errorf("%s goes %v", ip, goes)
		}
		sides[goes]++
	}
	if sides[true] < 10 || sides[false] < 10 {
		t.Errorf("sides %v", sides)
	}
}

// Chance decides about the first connection of a bake, and about the first idle connection of each turn, as about all others.
func TestFirstConnectionIsDecidedByChance(t *testing.T) {
	const n = 400
	e, places := newExchange(t, nil), 0
	chosen := 0
	for range n {
		if NewDispatcher(nil, nil, nil, false, nil, nil, nil).fresh.place < 0.5 {
			places++
		}
		e.dispatcher.SetWeight(0)
		e.dispatcher.SetWeight(0.5)
		if sum := e.dispatcher.idle.sum; sum != 0 {
			t.Fatalf("the turn begins with the sum %v", sum)
		}
		e.offer(pairs(t, 1), e.move, func(passed bool) {
			if passed {
				chosen++
			}
		})
	}
	mustBeShare(t, places, n, 0.5)
	mustBeShare(t, chosen, n, 0.5)
}

// Each connection without a port is a unit by itself.
func TestConnectionsWithoutAPortAreUnits(t *testing.T) {
	e := newExchange(t, nil)
	e.dispatcher.SetWeight(0.5)
	units := map[string]bool{}
	for _, c := range pairs(t, 20) {
		if e.dispatch(c) {
			about, f := e.next(e.parent)
			units[about.Unit] = true
			f.Close()
			continue
		}
		unit, _, ok := Assigned(c)
		units[unit] = ok
	}
	if len(units) != 20 || units[""] {
		t.Errorf("the units are %v", units)
	}
}

// The program's choice is no chance: nothing is assigned, in neither process. A connection of the old process of an earlier
// build is not assigned either, nor one that came back, until it is decided again.
func TestOnlyChanceAssigns(t *testing.T) {
	e := newExchange(t, func(net.Conn, float64) bool { return true })
	e.dispatcher.SetWeight(0.5)
	c, canary := e.fresh()
	if mustNotBeAssigned(t, c); !canary {
		t.Fatal("it is not passed")
	}
	e.dispatcher.choose = func(net.Conn, float64) bool { return false }
	c, _ = e.fresh()
	mustNotBeAssigned(t, c)

	e = newExchange(t, nil)
	e.dispatcher.SetWeight(1)
	_, server := e.conn()
	if !e.dispatch(server) {
		t.Fatal("it is not passed")
	}
	about, f := e.next(e.parent)
	earlier := about
	earlier.Turn = 0
	old, err := NewConn(f.Files[0], earlier, e.sharing)
	if err != nil {
		t.Fatal(err)
	}
	mustNotBeAssigned(t, old)
	old.(*Conn).Conn.Close()
	e.dispatcher.Returned(about, false)
	e.dispatcher.Sweep()
	back := e.accept(e.oldLn)
	mustNotBeAssigned(t, back)
	e.dispatcher.SetWeight(0)
	e.dispatcher.SetWeight(0.5)
	unit := back.RemoteAddr().String()
	back, _ = e.offered(back)
	mustBeAssigned(t, back, unit, 0.5)
}

// A message that comes late, from a turn that is over, assigns nothing. The candidate knows that the turn is over before a
// connection of the next turn comes. After the death of the old process nothing is assigned.
func TestTurnEndsInBothProcessesAtOnce(t *testing.T) {
	e := newExchange(t, nil)
	e.dispatcher.SetWeight(0.999)
	e.dispatcher.fresh.place = 0.5
	now, _ := e.fresh()
	mustBeAssigned(t, now, now.RemoteAddr().String(), 0.999)
	_, server := e.conn()
	e.dispatcher.fresh.place = e.dispatcher.fresh.sum
	if !e.dispatch(server) {
		t.Fatal("it is not passed")
	}
	e.dispatcher.SetWeight(1)
	mustNotBeAssigned(t, now)
	mustNotBeAssigned(t, e.take())
	last, _ := e.fresh()
	mustBeAssigned(t, last, last.RemoteAddr().String(), 1)
	e.sharing.End()
	mustNotBeAssigned(t, last)
	e.dispatcher.Settle(false)
	if e.dispatcher.SetWeight(0.5) != 1 {
		t.Error("the weight was not 1")
	}
	here, _ := net.Pipe()
	here.Close()
	mustNotBeAssigned(t, here)
}

// Some connections fail at constant times, in whichever process they are, before a step from 10 % to 50 % and after it. Of the
// failures that are counted, the candidate's share is the stated probability, in each turn. If the failures of the connections
// that the candidate has since the first turn were counted too, the share would be greater.
func TestConstantFailuresAreNobodysFault(t *testing.T) {
	const rounds, conns = 24, 500
	var n failures
	for range rounds {
		t.Run("", func(t *testing.T) { n.round(t, conns) })
	}
	if len(n.counted) != 2 {
		t.Errorf("the probabilities are %v", n.counted)
	}
	for p, sides := range n.counted {
		mustBeShare(t, sides[1], sides[0]+sides[1], p)
		t.Logf("probability %.3f: %d of %d counted failures are the candidate's", p, sides[1], sides[0]+sides[1])
	}
	all, part := float64(n.naive[0]+n.naive[1]), 4./9
	if share := float64(n.naive[1]) / all; share < part+4*math.Sqrt(part*(1-part)/all) {
		t.Errorf("of all failures after the step the candidate has %.3f, so this test proves nothing", share)
	} else {
		t.Logf("of all failures after the step the candidate has %.3f of %.0f", share, all)
	}
}

// failures are the numbers of failures of the old process and of the candidate.
type failures struct {
	counted map[float64][2]int // by the stated probability
	naive   [2]int             // after the step, with all connections
}

// held is a connection in one of the processes.
type held struct {
	conn  net.Conn // nil: the candidate has the connection
	about wire.ConnBody
}

// round makes a bake with a step, in which every second connection fails in each turn.
func (n *failures) round(t *testing.T, conns int) {
	e := newExchange(t, nil)
	offer := func(c net.Conn, decide func(net.Conn) bool) held {
		if !decide(c) {
			return held{conn: c}
		}
		about, f := e.next(e.parent)
		f.Close()
		return held{about: about}
	}
	var all []held
	e.dispatcher.SetWeight(0.1)
	for _, c := range pairs(t, conns) {
		all = append(all, offer(c, e.dispatch))
	}
	n.count(all, e.dispatcher.turn)
	e.dispatcher.SetWeight(0.5)
	for i, h := range all {
		if h.conn != nil {
			all[i] = offer(h.conn, e.move)
		}
	}
	naive := n.count(all, e.dispatcher.turn)
	n.naive[0], n.naive[1] = n.naive[0]+naive[0], n.naive[1]+naive[1]
}

// count counts a failure of every second connection in the present turn, and returns the number of the failures in each process.
func (n *failures) count(all []held, now turn) (naive [2]int) {
	if n.counted == nil {
		n.counted = map[float64][2]int{}
	}
	for i := 0; i < len(all); i += 2 {
		side, weight, ok := 1, all[i].about.Weight, all[i].about.Turn == int(now.number)
		if c := all[i].conn; c != nil {
			side = 0
			_, weight, ok = Assigned(c)
		}
		if naive[side]++; ok {
			both := n.counted[weight]
			both[side]++
			n.counted[weight] = both
		}
	}
	return naive
}
