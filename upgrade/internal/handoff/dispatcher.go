// Package handoff moves connections between processes: it sends the descriptors of the connections over the control socket.
//
//	flow.go        flow: idle connections are sent as fast as the other process takes them
//	dispatcher.go  Dispatcher: the old process gives a share of its connections to the candidate, and takes them back
//	moving.go      moving: a Dispatcher as the sender of idle connections
//	returner.go    Returner: the candidate sends idle connections back
//	successor.go   Successor, SendLate: connections go to the process that has taken over
//	takes.go       Takes: which connections can be passed to the other process
//	conn.go        Conn: a connection from another process; AcceptMoved returns Conns
//	sampler.go     sampler: the random choice of an exact share of the connections
//	told.go        what is known about a connection of package net: how chance has assigned it, and the bytes that came with it
//	slots_*.go     Slots: shared memory with the states of passed connections
//
// A new connection goes to the candidate in these steps. In the old process, Accept of package listener calls
// Dispatcher.Dispatch, which sends the descriptor with a wire.ConnBody. The candidate receives this message and calls
// GiveMoved, which gives a Conn to the listener of the same name. If the program calls AcceptMoved of the listener, it gets the
// Conn. If it calls Accept, it gets the connection of package net in the Conn.
package handoff

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/internal/cohort"
	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Dispatcher gives a share of the old process's connections to the candidate on trial. A new connection is passed when it is
// accepted. An idle connection is passed when the server offers it. The dispatcher keeps a descriptor of each passed
// connection. If the candidate dies, the old process takes back the connections that the candidate was not using.
type Dispatcher struct {
	set    *listener.Set
	link   *wire.Link
	choose Choice // the program's choice; nil: chance decides
	sticky bool   // chance decides by ByAddress; false: chance decides by the fields fresh and idle
	takes  Takes
	slots  *Slots
	flow   *flow // sends the idle connections; its lock is taken before mu

	mu     sync.Mutex
	weight float64
	part   float64            // the part of the idle connections that is to move in this step, from 0 to 1
	fresh  sampler            // chooses new connections
	idle   sampler            // chooses idle connections
	turn   turn               // begins with each SetWeight
	named  int                // how many connections without a port have a unit
	next   int                // the slot that was taken last: the search for a free slot begins after it
	passed map[int]passedConn // the keys are slots
	state  state              // how far the passing has ended
}

// state says how far the passing of connections has ended.
type state uint8

const (
	passing   state = iota // connections are passed
	stopped                // Stop was called
	settled                // Settle was called, and the candidate lives
	reclaimed              // Settle was called, and the candidate is dead
)

// Choice reports whether the candidate gets c. weight is the candidate's share of new connections, from 0 to 1. Without a
// Choice, chance decides, and the Dispatcher counts the connections so that the candidate gets this share.
type Choice func(c net.Conn, weight float64) bool

// passedConn has this process's descriptor of a passed connection, and the message about the connection.
type passedConn struct {
	file  *os.File
	about wire.ConnBody
}

// NewDispatcher makes a Dispatcher. It passes connections of the listeners in set to the process at the other end of l. t
// decides which connections that process can take. choose is the program's choice. If choose is nil, chance decides: by
// ByAddress if sticky is true, and otherwise by counting. The dispatcher owns the slots. When the candidate first has no room for
// an idle connection, full is called, which must not wait.
func NewDispatcher(set *listener.Set, l *wire.Link, choose Choice, sticky bool, t Takes, s *Slots, full func()) *Dispatcher {
	d := &Dispatcher{
		set: set, link: l, choose: choose, sticky: sticky, takes: t, slots: s,
		fresh: newSampler(), turn: turn{now: new(atomic.Uint32)}, passed: map[int]passedConn{},
	}
	d.flow = newFlow(l, (*moving)(d), full)
	return d
}

// pass sends a connection to the candidate, and reports success. After a success the descriptor of c is closed, and the
// dispatcher keeps a duplicate. The caller holds the lock.
func (d *Dispatcher) pass(c net.Conn, about wire.ConnBody) bool {
	file, err := sys.ConnFile(Bare(c))
	if err != nil {
		return false
	}
	if about.Slot = d.takeSlot(); about.Slot == 0 || d.link.TrySend(wire.KindConn, about, file, 0) != nil {
		d.freeSlot(about.Slot)
		file.Close()
		return false
	}
	d.passed[about.Slot] = passedConn{file, about}
	Bare(c).Close() // this closes only the descriptor, but Close of a *Conn may end the connection for the client
	return true
}

func (d *Dispatcher) takeSlot() int {
	for range slotCount - 1 {
		d.next = d.next%(slotCount-1) + 1
		if w := d.slots.at(d.next); w.CompareAndSwap(slotFree, slotIdle) {
			return d.next
		}
	}
	return 0
}

func (d *Dispatcher) freeSlot(slot int) {
	if w := d.slots.at(slot); w != nil {
		w.Store(slotFree)
	}
}

// Dispatch decides whether the candidate gets an accepted connection, and reports whether the candidate has the connection now.
// If so, Dispatch has closed c. Dispatch waits for the program's Choice, but not for the candidate.
func (d *Dispatcher) Dispatch(ref *listener.Socket, c net.Conn) bool {
	about := wire.ConnBody{Network: ref.Network, Addr: ref.Addr}
	if weight, _ := d.shares(); weight <= 0 || !d.takes.allow(&about) || !d.chosen(c, weight) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != passing || d.weight <= 0 {
		return false
	}
	return d.decideAndPass(c, about, d.weight, &d.fresh)
}

// decideAndPass decides whether the candidate gets a connection, and reports whether the candidate has the connection now. If
// the connection cannot be passed, nothing is decided, and the next counted connection takes its place. The caller holds the
// lock.
func (d *Dispatcher) decideAndPass(c net.Conn, about wire.ConnBody, p float64, counts *sampler) bool {
	if !d.decide(c, &about, p, counts) || !d.pass(c, about) {
		return false
	}
	d.counted(counts, 1)
	return true
}

// counted notes that so many chosen connections were passed; with -1, that a passed connection has come back.
func (d *Dispatcher) counted(counts *sampler, passed int) {
	if d.choose == nil && !d.sticky {
		counts.lacks -= passed
	}
}

// decide decides whether the candidate gets a connection. p is the probability of a counted connection. If the program has
// chosen the connection, the candidate gets it. The caller holds the lock.
func (d *Dispatcher) decide(c net.Conn, about *wire.ConnBody, p float64, counts *sampler) bool {
	if d.choose != nil {
		return true
	}
	var goes bool
	random := true
	if d.sticky {
		// About an idle connection chance has not decided now: its address was given its place before. The connections that the
		// candidate has had since then are not counted, so those of this process must not be counted either.
		goes, p, random = ByAddress(c, d.weight), d.weight, counts == &d.fresh
	} else {
		goes, random = counts.next(p)
	}
	if random {
		about.Unit, about.Weight, about.Turn = d.unit(c), p, int(d.turn.number)
	}
	if !goes {
		assign(Bare(c), about.Unit, p, d.turn)
	}
	return goes
}

// unit returns the unit of a connection: what chance assigns to a process. With sticky this is the client's address. Without
// sticky the connection itself is the unit, and has the name of the client's address and port, or a number if there is no port.
func (d *Dispatcher) unit(c net.Conn) string {
	if d.sticky {
		return unitOf(c)
	}
	if addr := c.RemoteAddr(); addr != nil {
		if _, _, err := net.SplitHostPort(addr.String()); err == nil {
			return addr.String()
		}
	}
	d.named++
	return fmt.Sprintf("connection %d", d.named)
}

// Move decides whether the candidate gets an idle connection that the server offers. It reports whether the candidate has the
// connection now. Chance decides about a connection only once in a turn: if the server offers the connection again, it stays.
// Chance decides when the connection can be sent. Otherwise the connections that chance has chosen, and whose clients send
// something before they can be sent, would stay, and the candidate would get too few connections of busy clients.
//
// Move is a Mover.
func (d *Dispatcher) Move(ref listener.Origin, c net.Conn, ahead []byte) bool {
	about := wire.ConnBody{Network: ref.Network, Addr: ref.Addr, Idle: len(ahead) == 0, Ahead: ahead}
	weight, part := d.shares()
	if part <= 0 || ref.Pinned || !d.takes.allow(&about, ref.Others...) || !d.chosen(c, weight) {
		return false
	}
	if !d.flow.move(c, about) {
		return false
	}
	Bare(c).Close() // this closes only the descriptor: a Close of c might end the connection
	return true
}

// undecided reports whether it is to be decided in this turn whether an idle connection goes to the candidate. The caller holds
// the lock.
func (d *Dispatcher) undecided(c net.Conn) bool {
	return d.state == passing && d.part > 0 && recall(Bare(c)).turn != d.turn
}

// shares returns the candidate's share of new connections, and the part of the idle connections that moves in this step. Both
// are 0 after Stop.
func (d *Dispatcher) shares() (weight, part float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != passing {
		return 0, 0
	}
	return d.weight, d.part
}

// chosen reports whether the program chooses a connection for the candidate. Without a Choice, chosen returns true, because the
// caller counts the connections. The caller does not hold d.mu: the program's Choice may take long, and the goroutine of the
// upgrade attempt must not wait for the lock.
func (d *Dispatcher) chosen(c net.Conn, weight float64) bool {
	return d.choose == nil || chosen(d.choose, c, weight)
}

// chosen returns the result of the program's Choice. If the Choice panics, chosen returns false.
func chosen(choose Choice, c net.Conn, weight float64) (yes bool) {
	_ = guard.Call(func() error { yes = choose(c, weight); return nil })
	return yes
}

// Weight returns the candidate's share of new connections.
func (d *Dispatcher) Weight() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.weight
}

// SetWeight begins a step with a new weight, and returns the weight before the step. If the weight grows, a part of the idle
// connections is to move to the candidate too. The step is a turn: see turn.
func (d *Dispatcher) SetWeight(w float64) (before float64) {
	d.flow.mu.Lock() // no connection is sent by the weight before, once the candidate has learned of this weight
	defer d.flow.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	before, d.weight = d.weight, w
	d.part, d.idle = 0, newSampler()
	if w > before {
		d.part = (w - before) / (1 - before)
	}
	if d.state == passing {
		d.turn.number++
		d.show(d.turn.number)
	}
	return before
}

// show makes a number the number of the present turn, in both processes. With the number 0 there is no turn. The caller holds
// the lock.
func (d *Dispatcher) show(number uint32) {
	d.turn.now.Store(number)
	if shared := d.slots.turn(); shared != nil {
		shared.Store(number)
	}
}

// Sweep looks at the slots of all passed connections. If the candidate has closed or owns a connection, Sweep closes the old
// process's descriptor. If the slot is slotRefused, Sweep takes the connection back.
func (d *Dispatcher) Sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for slot, p := range d.passed {
		switch d.slots.at(slot).Load() {
		case slotRefused:
			if d.takeBack(p) == nil {
				d.drop(slot, p)
			} // after an error the next Sweep tries again: this process may have a free descriptor by then
		case slotClosed, slotOwned:
			d.drop(slot, p)
		}
	}
}

// takeBack gives a passed connection to its listener in this process. It fails if the listener was closed after the connection
// was accepted, or if this process has no free descriptor.
func (d *Dispatcher) takeBack(p passedConn) error {
	p.about.Slot = 0
	return GiveMoved(d.set, p.about, p.file, nil)
}

func (d *Dispatcher) drop(slot int, p passedConn) {
	p.file.Close()
	delete(d.passed, slot)
	d.freeSlot(slot)
}

// Returned notes that the candidate has sent a connection back. served is true if this process already serves the connection by
// the descriptor that came back. If served is false, the next Sweep gives this process's own descriptor of the connection to
// the listener. The result is false if this process had no descriptor of its own.
func (d *Dispatcher) Returned(about wire.ConnBody, served bool) (kept bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, kept := d.passed[about.Slot]
	switch {
	case !kept:
	case served:
		d.drop(about.Slot, p)
	default:
		d.passed[about.Slot] = passedConn{p.file, about}
		d.slots.at(about.Slot).Store(slotRefused)
	}
	return kept
}

// Stop ends the passing of connections, and the turn.
func (d *Dispatcher) Stop() {
	d.flow.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
}

func (d *Dispatcher) end() {
	d.state = max(d.state, stopped)
	d.show(0)
}

// Settle closes the descriptors of all passed connections. Before that, it takes back the connections that the candidate has
// refused. reclaim is true if the candidate is dead. In this case Settle also takes back the connections that the candidate was
// not using (slotIdle) or was sending back (slotBack). lost is the number of connections that could not be taken back.
func (d *Dispatcher) Settle(reclaim bool) (lost int) {
	d.flow.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
	for slot, p := range d.passed {
		state := d.slots.at(slot).Load()
		ours := state == slotRefused || reclaim && (state == slotIdle || state == slotBack)
		if ours && d.takeBack(p) != nil {
			lost++
		}
		d.drop(slot, p)
	}
	d.slots.Close()
	if d.state = settled; reclaim {
		d.state = reclaimed
	}
	return lost
}

// unitOf returns the unit to which a connection belongs with Options.Sticky: the client's address without the port.
func unitOf(c net.Conn) string {
	addr := c.RemoteAddr()
	if addr == nil {
		return ""
	}
	if host, _, err := net.SplitHostPort(addr.String()); err == nil {
		return host
	}
	return addr.String()
}

// ByAddress is a Choice by the client's address: all connections of an address go to the same process. The weight is the share
// of the addresses that go to the candidate. With the same weight, the same addresses go to the candidate on every host. If the
// weight grows, no address goes back to the old process.
func ByAddress(c net.Conn, weight float64) bool {
	return cohort.In("midair.upgrade", unitOf(c), weight)
}
