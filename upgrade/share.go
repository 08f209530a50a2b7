package upgrade

import (
	"fmt"
	"math"
	"net"
	"os"
	"sync"

	"github.com/midair-go/midair/internal/cohort"
	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// dispatcher gives a share of the connections to the candidate while it is being tried: it passes their descriptors over
// the control socket, new ones when they were accepted, idle ones when the server offers them. Of each it keeps a
// descriptor of its own, so that what the candidate has not read from can be taken back if it dies.
type dispatcher struct {
	set    *listeners
	link   *wire.Link
	choose choice // nil: counted
	slots  *slots

	mu     sync.Mutex
	weight float64
	debt   float64 // what the candidate is behind with new connections: at 1 the next one is its
	part   float64 // which part of the idle connections moves in this step
	owed   float64 // the same as debt, for idle connections
	next   int     // where to look for a free slot
	passed map[int]passedConn
	over   bool
}

// passedConn is a descriptor that this process keeps of a passed connection.
type passedConn struct {
	file  *os.File
	about wire.ConnBody
}

// newDispatcher gives connections of a set of listeners to the process at the other end of the link. It owns the slots.
func newDispatcher(set *listeners, l *wire.Link, choose choice, s *slots) *dispatcher {
	return &dispatcher{set: set, link: l, choose: choose, slots: s, passed: map[int]passedConn{}}
}

// choice decides which connections the candidate gets at a weight; nil: they are counted.
type choice func(c net.Conn, weight float64) bool

// pass hands a connection to the candidate. The caller's own descriptor is closed if it could.
func (d *dispatcher) pass(c net.Conn, about wire.ConnBody) bool {
	file, err := sys.ConnFile(bare(c))
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
	bare(c).Close() // this descriptor: a Close of c might end the connection
	return true
}

func (d *dispatcher) takeSlot() int {
	for range slotCount - 1 {
		d.next = d.next%(slotCount-1) + 1
		if w := d.slots.at(d.next); w.CompareAndSwap(slotFree, slotIdle) {
			return d.next
		}
	}
	return 0
}

func (d *dispatcher) freeSlot(slot int) {
	if w := d.slots.at(slot); w != nil {
		w.Store(slotFree)
	}
}

// dispatch decides on a connection that was accepted, and tells whether the candidate has it now.
func (d *dispatcher) dispatch(ref *socketRef, c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || d.weight <= 0 {
		return false
	}
	if d.choose != nil {
		if !chosen(d.choose, c, d.weight) {
			return false
		}
	} else if d.debt += d.weight; d.debt < 1 {
		return false
	}
	if !d.pass(c, wire.ConnBody{Network: ref.network, Addr: ref.addr}) {
		return false // it is owed one more, if they are counted
	}
	if d.choose == nil {
		d.debt--
	}
	return true
}

// move decides on an idle connection that the server offers.
func (d *dispatcher) move(ref knownListener, c net.Conn, ahead []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || d.part <= 0 || ref.pinned {
		return false
	}
	if d.choose != nil {
		if !chosen(d.choose, c, d.weight) {
			return false
		}
	} else if d.owed += d.part; d.owed < 1-1e-9 {
		return false
	}
	if !d.pass(c, wire.ConnBody{Network: ref.network, Addr: ref.addr, Idle: len(ahead) == 0, Ahead: ahead}) {
		return false
	}
	d.owed = max(0, d.owed-1)
	return true
}

// chosen asks the program. A panic is taken for no.
func chosen(choose choice, c net.Conn, weight float64) (yes bool) {
	_ = guard.Call(func() error { yes = choose(c, weight); return nil })
	return yes
}

// weightNow returns the share of the candidate.
func (d *dispatcher) weightNow() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.weight
}

// setWeight begins a step.
func (d *dispatcher) setWeight(w float64) (from float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, d.weight = d.weight, w
	d.part, d.owed = 0, 0
	if w > from {
		d.part = (w - from) / (1 - from)
	}
	return from
}

// sweep closes what the candidate has closed, and takes back what it could not take.
func (d *dispatcher) sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for slot, p := range d.passed {
		switch d.slots.at(slot).Load() {
		case slotRefused:
			if d.takeBack(p) == nil {
				d.drop(slot, p)
			} // otherwise in the next sweep: there may be room for another descriptor then
		case slotClosed:
			d.drop(slot, p)
		}
	}
}

// takeBack serves a connection here. That fails if its listener was closed meanwhile, or for want of descriptors.
func (d *dispatcher) takeBack(p passedConn) error {
	p.about.Slot = 0
	return giveMoved(d.set, p.about, p.file, nil)
}

func (d *dispatcher) drop(slot int, p passedConn) {
	p.file.Close()
	delete(d.passed, slot)
	d.freeSlot(slot)
}

// returned notes that the candidate has sent a connection back. If it is not served here yet, this process's own descriptor
// of it will do, in a sweep; kept tells whether there is one.
func (d *dispatcher) returned(about wire.ConnBody, served bool) (kept bool) {
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

// stop ends passing connections.
func (d *dispatcher) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}

// settle closes what was kept of the passed connections. With reclaim the candidate is dead, and what it has not read
// from or written to is served here. It returns how many of those could not be.
func (d *dispatcher) settle(reclaim bool) (lost int) {
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
	d.slots.close()
	return lost
}

// unitOf is what a progressive upgrade splits: the client's address without its port.
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

// byAddress keeps an address on one side: the share of the addresses is the weight, the same on every host, and who is
// in a small share is in every greater one.
func byAddress(c net.Conn, weight float64) bool {
	return cohort.In("midair.upgrade", unitOf(c), weight)
}

// choice is how connections are chosen; nil: by counting.
func (o Options) choice() choice {
	if o.Choose == nil && o.Sticky {
		return byAddress
	}
	return o.Choose
}

// SetWeight gives the candidate a share of the connections, from 0 to 1. It works in Bake, at any time and in any
// direction. New connections are accepted here and passed on as they are: exactly the share, counted, or as
// Options.Sticky or Choose say. The same share of the idle connections is passed on as well if the server offers them
// ([Upgrader.Offers]). At 1 the candidate accepts by itself, and this process is a warm standby that has kept its sockets.
// What was passed comes back by a lower weight, by an abort, and by the death of the candidate as far as it has not
// used it.
//
// ErrNotSupported: not on this platform (it needs Linux), or the candidate has a library that is too old. ErrNotReady: one
// of the two needs an exclusive resource to serve. ErrClosed: Bake has returned.
func (c *Candidate) SetWeight(w float64) error {
	if math.IsNaN(w) || w < 0 || w > 1 {
		return fmt.Errorf("upgrade: a weight of %v: want a number from 0 to 1", w)
	}
	if c.attempt == nil {
		return ErrClosed
	}
	return c.attempt.setWeight(w)
}

// Weight returns the share that the candidate has.
func (c *Candidate) Weight() float64 {
	if c.attempt == nil {
		return 0
	}
	return c.attempt.weightNow()
}

func (a *attempt) weightNow() float64 {
	d := a.dispatcher.Load()
	if d == nil {
		return 0
	}
	return d.weightNow()
}

func (a *attempt) setWeight(w float64) error {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	switch {
	case !a.baking || a.plain:
		return fmt.Errorf("%w: Bake does not run, or has returned", ErrClosed)
	case !canPass:
		return fmt.Errorf("%w: connections are passed on Linux only", ErrNotSupported)
	case a.cand.protocol < 2:
		return fmt.Errorf("%w: the candidate, %q, has a library that is too old to be given connections", ErrNotSupported, a.cand.version)
	case a.exclusive:
		return fmt.Errorf("%w: an exclusive resource is needed to serve, so the candidate may not serve before the commit; Background says that it is not", ErrNotReady)
	}
	if a.dispatcher.Load() == nil {
		if err := a.share(); err != nil {
			return err
		}
	}
	from := a.dispatcher.Load().setWeight(w)
	if err := a.turn(from, w); err != nil {
		a.dispatcher.Load().setWeight(from)
		return fmt.Errorf("upgrade: weight %v: control socket: %w", w, err)
	}
	a.u.offer()
	a.report()
	return nil
}

// share begins to give connections away.
func (a *attempt) share() error {
	s, err := newSlots()
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	if err := a.child.link.Send(wire.KindShare, nil, s.file); err != nil {
		s.close()
		return fmt.Errorf("upgrade: control socket: %w", err)
	}
	d := newDispatcher(a.u.listeners, a.child.link, a.u.opts.choice(), s)
	a.open = true // it may have requests to finish
	a.dispatcher.Store(d)
	a.u.listeners.setDispatch(d.dispatch)
	a.u.setMover(d.move)
	a.heard()
	return nil
}

// turn tells the candidate what a new weight means for it: whether it accepts by itself, and which part of what it has
// comes back. It accepts before this process does not any more, unless it stops right then: then Silence ends that.
func (a *attempt) turn(from, to float64) error {
	link := a.child.link
	switch {
	case to == 1 && from < 1:
		a.open = true
		if err := link.Send(wire.KindOpen, nil); err != nil {
			return err
		}
		a.u.listeners.pause(false)
	case from == 1 && to < 1:
		a.u.listeners.open(true)
		if err := link.Send(wire.KindShut, nil); err != nil {
			return err
		}
	}
	if to < from {
		return link.Send(wire.KindWeight, wire.WeightBody{From: from, To: to})
	}
	return nil
}

// setBaking says whether weights may be set.
func (a *attempt) setBaking(on bool) {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	a.baking = on
}

// stopSharing stops giving connections away.
func (a *attempt) stopSharing() {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	a.baking = false
	if d := a.dispatcher.Load(); d != nil {
		a.u.listeners.setDispatch(nil)
		a.u.setMover(nil)
		d.sweep()
		d.stop()
	}
}

// bare looks through the wrapper of this package.
func bare(c net.Conn) net.Conn {
	if m, ok := c.(*movedConn); ok {
		return m.Conn
	}
	return c
}
