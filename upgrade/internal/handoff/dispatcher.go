// Package handoff moves connections between processes, by their descriptors over the control socket.
//
//	dispatcher.go  Dispatcher: the old process gives a share of its connections to the candidate, and takes them back
//	returner.go    Returner: the candidate sends idle ones back; Successor and SendLate send for good
//	takes.go       Takes: which connections the other process can be passed
//	conn.go        Conn: what comes out of AcceptMoved in the process that has got one
//	told.go        what was said of a connection that the program has in package net's type
//	slots_*.go     Slots: shared memory, in which the candidate says what it has not touched
//
// A connection by weight goes this way: Accept of package listener asks Dispatcher.Dispatch, which sends the descriptor as
// a wire.ConnBody; the candidate's loop calls GiveMoved, and AcceptMoved of the same listener there returns a Conn,
// Accept the connection of package net in it.
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

// Dispatcher gives a share of the connections to the candidate on trial: it passes their descriptors over the control socket,
// new ones when they were accepted, idle ones when the server offers them. The dispatcher keeps a descriptor of each passed
// connection. If the candidate dies, the connections that the candidate has not read from are taken back.
type Dispatcher struct {
	set    *listener.Set
	link   *wire.Link
	choose Choice // nil: counted
	takes  Takes
	slots  *Slots

	mu     sync.Mutex
	weight float64
	debt   float64 // what the candidate is behind with new connections: at 1 the next one is its
	part   float64 // which part of the idle connections moves in this step
	owed   float64 // the same as debt, for idle connections
	next   int     // where to look for a free slot
	passed map[int]passedConn
	over   bool
}

// Choice decides which connections the candidate gets at a weight; with nil the connections are counted.
type Choice func(c net.Conn, weight float64) bool

// passedConn is this process's descriptor of a passed connection.
type passedConn struct {
	file  *os.File
	about wire.ConnBody
}

// NewDispatcher gives connections of a set of listeners to the process at the other end of the link, as far as t allows. The
// dispatcher owns the slots.
func NewDispatcher(set *listener.Set, l *wire.Link, choose Choice, t Takes, s *Slots) *Dispatcher {
	return &Dispatcher{set: set, link: l, choose: choose, takes: t, slots: s, passed: map[int]passedConn{}}
}

// pass hands a connection to the candidate, and reports success: then the caller's own descriptor is closed.
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
	Bare(c).Close() // this descriptor: a Close of c might end the connection
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

// Dispatch decides on an accepted connection, and reports whether the candidate has the connection now: then the connection is
// closed here. Dispatch waits for nothing but the program's choice.
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
	if d.debt += d.weight; d.debt < 1 || !d.pass(c, about) { // a connection that cannot be passed is owed
		return false
	}
	d.debt--
	return true
}

// Move decides on an idle connection that the server offers, and reports whether the candidate has the connection now. Move is
// a Mover.
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

// shares returns the share of the candidate of new connections, and of idle ones in this step; 0 after Stop.
func (d *Dispatcher) shares() (weight, part float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return 0, 0
	}
	return d.weight, d.part
}

// chosen reports whether the program chooses a connection for the candidate. The lock is not held: the program may take long, and the
// owner of the attempt must not wait for the program. Without a choice connections are counted.
func (d *Dispatcher) chosen(c net.Conn, weight float64) bool {
	return d.choose == nil || chosen(d.choose, c, weight)
}

// chosen asks the program. A panic is taken for no.
func chosen(choose Choice, c net.Conn, weight float64) (yes bool) {
	_ = guard.Call(func() error { yes = choose(c, weight); return nil })
	return yes
}

// Weight returns the share of the candidate.
func (d *Dispatcher) Weight() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.weight
}

// SetWeight begins a step, and returns the weight before the step.
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

// Sweep closes the connections that the candidate has closed or owns, and takes back the ones that the candidate could not
// take.
func (d *Dispatcher) Sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for slot, p := range d.passed {
		switch d.slots.at(slot).Load() {
		case slotRefused:
			if d.takeBack(p) == nil {
				d.drop(slot, p)
			} // otherwise in the next sweep: there may be room for another descriptor then
		case slotClosed, slotOwned:
			d.drop(slot, p)
		}
	}
}

// takeBack serves a connection here. The reasons to fail are a listener that was closed meanwhile, and a lack of descriptors.
func (d *Dispatcher) takeBack(p passedConn) error {
	p.about.Slot = 0
	return GiveMoved(d.set, p.about, p.file, nil)
}

func (d *Dispatcher) drop(slot int, p passedConn) {
	p.file.Close()
	delete(d.passed, slot)
	d.freeSlot(slot)
}

// Returned notes that the candidate has sent a connection back. If the connection is not served here yet, a sweep serves it by
// this process's own descriptor; kept reports whether this process has one.
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

// Stop ends passing connections.
func (d *Dispatcher) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}

// Settle closes the kept descriptors. With reclaim the candidate is dead, and the connections that the candidate has neither
// read from nor written to are served here. Settle returns how many of these connections could not be served.
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

// unitOf is the unit of a progressive upgrade: the client's address without the port.
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

// ByAddress keeps an address on one side. The share of the addresses is the weight, and is the same on every host; an address
// in a small share is in every greater share.
func ByAddress(c net.Conn, weight float64) bool {
	return cohort.In("midair.upgrade", unitOf(c), weight)
}
