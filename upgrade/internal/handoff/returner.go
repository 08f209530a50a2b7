package handoff

import (
	"net"

	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Returner sends a part of the idle connections of a candidate back to the old process.
type Returner struct {
	takes  Takes
	choose Choice
	weight float64 // the weight of this process after the step
	step   uint32  // the number of the step, see Sharing
	part   float64
	counts sampler // guarded by the lock of flow
	flow   *flow
}

// NewReturner makes a Returner for a step from the weight before to the lower weight after. If choose is nil, the Returner
// sends back the part (before-after)/before of the idle connections. Otherwise it sends back the connections that choose does
// not give to this process at the new weight. If the new weight is 0, it sends all idle connections back. Connections that come
// from the old process after this call stay: they belong to a later step. sh is nil if no slots are shared.
func NewReturner(old *wire.Link, t Takes, choose Choice, before, after float64, sh *Sharing) *Returner {
	r := &Returner{takes: t, choose: choose, weight: after, step: sh.nextStep(), part: 1, counts: newSampler()}
	r.flow = newFlow(old, (*returning)(r), nil)
	if after == 0 {
		r.choose = nil // all connections go back, even if choose would give them to this process
	}
	if before > 0 {
		r.part = (before - after) / before
	}
	return r
}

// Move decides whether an idle connection that the server offers goes back to the old process. It reports whether the old
// process has the connection now. Move is a Mover.
func (r *Returner) Move(ref listener.Origin, c net.Conn, ahead []byte) bool {
	about := wire.ConnBody{Network: ref.Network, Addr: ref.Addr, Ahead: ahead, Idle: len(ahead) == 0}
	m, ok := c.(*Conn)
	switch {
	case ref.Pinned, !r.takes.allow(&about, ref.Others...), ok && m.step >= r.step:
		return false
	case r.choose != nil && chosen(r.choose, c, r.weight), !r.flow.move(c, about):
		return false
	}
	Bare(c).Close()
	return true
}

// Stop ends the moving of connections whose turn has not come.
func (r *Returner) Stop() { r.flow.stop() }

// returning is a Returner as the cargo of its flow.
type returning Returner

// load decides about a connection. If this process has no free descriptor to send, the old process uses its own.
func (r *returning) load(o *offer) fate {
	if !o.loaded && r.choose == nil && !r.counts.draw(r.part) {
		return stays
	}
	c, ok := o.conn.(*Conn)
	if !ok || !c.Kept() {
		return goes
	}
	o.about.Slot = c.about.Slot
	if o.unread = c.slot.CompareAndSwap(slotIdle, slotBack) || o.unread; o.unread && o.open() != nil && r.refuse(o, c) {
		return left
	}
	return goes
}

// landed gives up the slot of a connection that the old process has. If the old process had no room for the descriptor, it uses
// its own.
func (r *returning) landed(o *offer, took bool) bool {
	o.close()
	c, ok := o.conn.(*Conn)
	switch {
	case !ok:
		return took
	case took:
		c.left.Store(true) // from now on the old process may use the slot for another connection
		return true
	case o.unread && o.noRoom && r.refuse(o, c):
		return true
	case o.unread:
		c.slot.CompareAndSwap(slotBack, slotIdle)
		o.unread = false
	}
	return false
}

// refuse makes the old process use its own descriptor of a connection from which nothing was read here. It reports success.
func (r *returning) refuse(o *offer, c *Conn) bool {
	if !c.Kept() || !c.slot.CompareAndSwap(slotBack, slotRefused) {
		return false
	}
	c.left.Store(true)
	o.close()
	return true
}
