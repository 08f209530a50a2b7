package handoff

import (
	"net"
	"os"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Mover passes an idle connection to another process, and reports whether the other process has the connection now. origin is
// the listener that has accepted the connection. ahead has the bytes that the server has read already: the other process has to
// read these bytes first. There are three Movers. In a step of a bake, Dispatcher.Move passes connections to the candidate.
// After a commit, the Mover of Successor passes connections to the new process. After a lower weight or an abort, Returner.Move
// passes connections back to the old process.
type Mover func(origin listener.Origin, c net.Conn, ahead []byte) bool

// The sending of a connection waits at most for one of these limits if the other process is busy.
const (
	// idleLimit is for an idle connection. All idle connections of a process are offered at once, and go one by one: the limit
	// includes the wait for the others. A request that comes meanwhile waits too, so the limit is below a second.
	idleLimit = 500 * time.Millisecond
	// lastLimit is for a connection with bytes ahead, which the server offers only once. It is also for a connection that came
	// after the commit, which this process cannot serve (see SendLate).
	lastLimit = 2 * time.Second
)

// Successor returns a Mover that passes idle connections to the process that has taken over. This process keeps no descriptor
// of a passed connection. If the new process is busy, the Mover waits up to half a second. If the connection has bytes ahead,
// it waits up to two seconds.
func Successor(to *wire.Link, t Takes) Mover {
	return func(origin listener.Origin, c net.Conn, ahead []byte) bool {
		about := wire.ConnBody{Network: origin.Network, Addr: origin.Addr, Ahead: ahead}
		if !t.allow(&about, origin.Others...) || !sendIdle(to, about, c) {
			return false
		}
		Bare(c).Close() // this closes only the descriptor: a Close of c might end the connection
		return true
	}
}

func sendIdle(to *wire.Link, about wire.ConnBody, c net.Conn) bool {
	file, err := sys.ConnFile(Bare(c))
	if err != nil {
		return false
	}
	defer file.Close()
	about.Idle = len(about.Ahead) == 0
	return to.SendWithin(wire.KindConn, about, file, patience(about)) == nil
}

func patience(about wire.ConnBody) time.Duration {
	if about.Idle {
		return idleLimit
	}
	return lastLimit
}

// SendLate passes on a connection that came to this process after the commit, and reports success. It waits up to two seconds
// for a busy process. The caller closes the file.
func SendLate(to *wire.Link, about wire.ConnBody, file *os.File) bool {
	return to.SendWithin(wire.KindConn, about, file, lastLimit) == nil
}

// Returner sends a part of the idle connections of a candidate back to the old process.
type Returner struct {
	to     *wire.Link
	takes  Takes
	choose Choice
	weight float64 // the weight of this process after the step

	mu     sync.Mutex
	part   float64
	counts sampler
}

// NewReturner makes a Returner for a step from the weight before to the lower weight after. If choose is nil, the Returner
// sends back the part (before-after)/before of the idle connections. Otherwise it sends back the connections that choose does
// not give to this process at the new weight. If the new weight is 0, it sends all idle connections back.
func NewReturner(old *wire.Link, t Takes, choose Choice, before, after float64) *Returner {
	r := &Returner{to: old, takes: t, choose: choose, weight: after, part: 1, counts: newSampler()}
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
	about := wire.ConnBody{Network: ref.Network, Addr: ref.Addr, Ahead: ahead}
	if ref.Pinned || !r.takes.allow(&about, ref.Others...) || !r.chosen(c) {
		return false
	}
	m, ok := c.(*Conn)
	unread := false // true if the slot was slotIdle: the old process can serve the connection by its own descriptor
	if ok && m.Kept() {
		about.Slot = m.about.Slot
		unread = m.slot.CompareAndSwap(slotIdle, slotBack)
	}
	if !sendIdle(r.to, about, c) {
		state := slotIdle
		if unread && m.Kept() { // sendIdle may have failed for lack of descriptors; the old process has kept one
			state = slotRefused
		}
		if !unread || !m.slot.CompareAndSwap(slotBack, state) || state == slotIdle {
			return false
		}
	}
	if ok {
		m.left.Store(true) // from now on the old process may use the slot for another connection
	}
	Bare(c).Close()
	return true
}

func (r *Returner) chosen(c net.Conn) bool {
	if r.choose != nil {
		return !chosen(r.choose, c, r.weight)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts.draw(r.part)
}
