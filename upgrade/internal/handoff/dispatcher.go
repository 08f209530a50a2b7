// Package handoff moves connections between processes, by their descriptors over the control socket.
//
//	dispatcher.go  Dispatcher: the old process gives a share of its connections to the candidate, and takes them back
//	returner.go    Returner: the candidate sends idle connections back; Successor, SendLate: connections go to the new process
//	takes.go       Takes: which connections can be passed to the other process
//	conn.go        Conn: a connection from another process, as AcceptMoved returns it
//	told.go        for connections of package net: what the old process has sent about a connection
//	slots_*.go     Slots: shared memory, by which the old process knows which connections the candidate has not read from
//
// A new connection goes to the candidate in these steps: Accept of package listener calls Dispatcher.Dispatch, which sends
// the descriptor with a wire.ConnBody. The candidate's loop calls GiveMoved. In the candidate, AcceptMoved of the listener of
// the same name returns a Conn, or Accept returns the connection of package net in the Conn.
package handoff

import (
	"net"
	"os"
	"sync"

	"github.com/midair-go/midair/internal/cohort"
	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Dispatcher gives a share of the connections to the candidate on trial: it passes their descriptors over the control socket. A
// new connection is passed when it was accepted, an idle connection when the server offers it. The dispatcher keeps a
// descriptor of each passed connection. If the candidate dies, this process takes back the connections that the candidate has
// not read from.
type Dispatcher struct {
	set    *listener.Set
	link   *wire.Link
	choose Choice // if it is nil, debt and owed decide
	takes  Takes
	slots  *Slots

	mu     sync.Mutex
	weight float64
	debt   float64            // how many new connections the candidate lacks; at 1 the candidate gets the next new connection
	part   float64            // the part of the idle connections that moves in this step, from 0 to 1
	owed   float64            // how many idle connections the candidate lacks
	next   int                // the slot that was taken last: the search for a free slot begins after it
	passed map[int]passedConn // by slot
	over   bool               // Stop was called
}

// Choice reports whether the candidate gets c. weight is the candidate's share of new connections, from 0 to 1. Without a
// Choice, the Dispatcher gives this share to the candidate by counting the connections.
type Choice func(c net.Conn, weight float64) bool

// passedConn is a passed connection: this process's descriptor, and what was sent about the connection.
type passedConn struct {
	file  *os.File
	about wire.ConnBody
}

// NewDispatcher makes a Dispatcher, which passes connections of the listeners in set to the process at the other end of l, as
// far as t allows. The dispatcher owns the slots.
func NewDispatcher(set *listener.Set, l *wire.Link, choose Choice, t Takes, s *Slots) *Dispatcher {
	return &Dispatcher{set: set, link: l, choose: choose, takes: t, slots: s, passed: map[int]passedConn{}}
}

// pass sends a connection to the candidate, and reports success. After a success the caller's own descriptor is closed.
func (d *Dispatcher) pass(c net.Conn, about wire.ConnBody) bool {
	file, err := sys.ConnFile(Bare(c))
	if err != nil {
		return false
	}
	about.Unit, about.Weight = unitOf(c), d.weight
	if about.Slot = d.takeSlot(); about.Slot == 0 || d.link.TrySend(wire.KindConn, about, file, 0) != nil {
		d.freeSlot(about.Slot)
		file.Close()
		return false
	}
	d.passed[about.Slot] = passedConn{file, about}
	Bare(c).Close() // this closes only the descriptor: a Close of c might end the connection
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
// If so, Dispatch has closed the descriptor here. Dispatch waits only for the program's Choice.
func (d *Dispatcher) Dispatch(ref *listener.Socket, c net.Conn) bool {
	about := wire.ConnBody{Network: ref.Network, Addr: ref.Addr}
	if weight, _ := d.shares(); weight <= 0 || !d.takes.allow(&about) || !d.chosen(c, weight) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || d.weight <= 0 {
		return false
	}
	if d.choose != nil {
		return d.pass(c, about)
	}
	if d.debt += d.weight; d.debt < 1 || !d.pass(c, about) { // the debt stays if the connection cannot be passed
		return false
	}
	d.debt--
	return true
}

// Move decides whether the candidate gets an idle connection that the server offers, and reports whether the candidate has the
// connection now. Move is a Mover.
func (d *Dispatcher) Move(ref listener.Origin, c net.Conn, ahead []byte) bool {
	about := wire.ConnBody{Network: ref.Network, Addr: ref.Addr, Idle: len(ahead) == 0, Ahead: ahead}
	weight, part := d.shares()
	if part <= 0 || ref.Pinned || !d.takes.allow(&about, ref.Others...) || !d.chosen(c, weight) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || d.part <= 0 {
		return false
	}
	if d.choose != nil {
		return d.pass(c, about)
	}
	if d.owed += d.part; d.owed < 1-1e-9 || !d.pass(c, about) {
		return false
	}
	d.owed = max(0, d.owed-1)
	return true
}

// shares returns the candidate's share of new connections, and the part of the idle connections that moves in this step. Both
// are 0 after Stop.
func (d *Dispatcher) shares() (weight, part float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return 0, 0
	}
	return d.weight, d.part
}

// chosen reports whether the program chooses a connection for the candidate. d.mu is not held: the program may take long, and
// the goroutine of the upgrade attempt must not wait for the lock. Without a Choice chosen returns true, because the caller
// counts the connections.
func (d *Dispatcher) chosen(c net.Conn, weight float64) bool {
	return d.choose == nil || chosen(d.choose, c, weight)
}

// chosen calls the program's Choice. If the Choice panics, chosen returns false.
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

// SetWeight begins a step with a new weight, and returns the weight before the step.
func (d *Dispatcher) SetWeight(w float64) (from float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, d.weight = d.weight, w
	d.part, d.owed = 0, 0
	if w > from {
		d.part = (w - from) / (1 - from)
	}
	return from
}

// Sweep closes the descriptors of the connections that the candidate has closed or owns, and takes back the connections that
// the candidate has refused (slotRefused).
func (d *Dispatcher) Sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for slot, p := range d.passed {
		switch d.slots.at(slot).Load() {
		case slotRefused:
			if d.takeBack(p) == nil {
				d.drop(slot, p)
			} // else the next sweep tries again: this process may have a free descriptor later
		case slotClosed, slotOwned:
			d.drop(slot, p)
		}
	}
}

// takeBack gives a connection to its listener in this process. It fails if the listener was closed after the connection was
// accepted, or if this process has no free descriptor.
func (d *Dispatcher) takeBack(p passedConn) error {
	p.about.Slot = 0
	return GiveMoved(d.set, p.about, p.file, nil)
}

func (d *Dispatcher) drop(slot int, p passedConn) {
	p.file.Close()
	delete(d.passed, slot)
	d.freeSlot(slot)
}

// Returned notes that the candidate has sent a connection back. If served is false, this process does not serve the connection
// yet. In this case the next Sweep gives this process's own descriptor of the connection to the listener. Returned reports
// whether this process has such a descriptor.
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

// Stop ends the passing of connections.
func (d *Dispatcher) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}

// Settle closes the descriptors of all passed connections. First it takes back the connections that the candidate has refused.
// If reclaim is true, the candidate is dead, and Settle also takes back the connections that the candidate has neither read
// from nor written to (slotIdle), or was sending back (slotBack). It returns how many connections could not be taken back.
func (d *Dispatcher) Settle(reclaim bool) (lost int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for slot, p := range d.passed {
		state := d.slots.at(slot).Load()
		ours := state == slotRefused || reclaim && (state == slotIdle || state == slotBack)
		if ours && d.takeBack(p) != nil {
			lost++
		}
		d.drop(slot, p)
	}
	d.slots.Close()
	return lost
}

// unitOf returns the unit of a progressive upgrade to which a connection belongs: the client's address without the port.
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

// ByAddress is a Choice by the client's address: all connections of an address go to the same process. The candidate gets a
// share of all addresses that is as large as the weight, and the share has the same addresses on every host. An address in a
// small share is in every greater share.
func ByAddress(c net.Conn, weight float64) bool {
	return cohort.In("midair.upgrade", unitOf(c), weight)
}
