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

// Mover passes on an idle connection of the listener from, with bytes that were read ahead, and reports whether another process
// has the connection now. Idle connections change process to the candidate in a step of a bake (Dispatcher.Move), to the
// successor after a commit (Successor), and back to the old process by a lower weight and by an abort (Returner.Move).
type Mover func(from listener.Origin, c net.Conn, ahead []byte) bool

// How long sending a connection waits for a busy process. A server offers an idle connection again, but a connection with bytes ahead
// only once, and the message of such a connection takes more room. A connection that has come too late cannot be served here.
const (
	idleLimit = 50 * time.Millisecond
	lastLimit = 2 * time.Second
)

// Successor passes idle connections on for good, to a process that has taken over. The returned function is a Mover. It waits
// up to 50 milliseconds for a busy process, with bytes ahead up to two seconds.
func Successor(to *wire.Link, t Takes) Mover {
	return func(from listener.Origin, c net.Conn, ahead []byte) bool {
		about := wire.ConnBody{Network: from.Network, Addr: from.Addr, Ahead: ahead}
		if !t.allow(&about, from.Others...) || !sendIdle(to, about, c) {
			return false
		}
		Bare(c).Close() // this descriptor: a Close of c might end the connection
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

// SendLate passes a connection on that came to this process after the commit, and reports success. It waits up to two seconds
// for a busy process. The file stays the caller's.
func SendLate(to *wire.Link, about wire.ConnBody, file *os.File) bool {
	return to.SendWithin(wire.KindConn, about, file, lastLimit) == nil
}

// Returner sends a part of the idle connections of a candidate back to the old process.
type Returner struct {
	to     *wire.Link
	takes  Takes
	choose Choice
	weight float64 // what stays here

	mu   sync.Mutex
	part float64
	owed float64
}

// NewReturner sends back the part of the idle connections for a step from a weight to a lower weight: all connections at 0.
func NewReturner(old *wire.Link, t Takes, choose Choice, from, to float64) *Returner {
	r := &Returner{to: old, takes: t, choose: choose, weight: to, part: 1}
	if to == 0 {
		r.choose = nil // whoever is chosen, all go
	}
	if from > 0 {
		r.part = (from - to) / from
	}
	return r
}

// Move decides on an idle connection that the server offers. Move is a Mover.
func (r *Returner) Move(ref listener.Origin, c net.Conn, ahead []byte) bool {
	about := wire.ConnBody{Network: ref.Network, Addr: ref.Addr, Ahead: ahead}
	if ref.Pinned || !r.takes.allow(&about, ref.Others...) || !r.chosen(c) {
		return false
	}
	m, ok := c.(*Conn)
	unread := false // so that the old process may take it as it gave it
	if ok && m.Kept() {
		about.Slot = m.about.Slot
		unread = m.slot.CompareAndSwap(slotIdle, slotBack)
	}
	if !sendIdle(r.to, about, c) {
		state := slotIdle
		if unread && m.Kept() { // it has a descriptor itself: this process may have no room for another one
			state = slotRefused
		}
		if !unread || !m.slot.CompareAndSwap(slotBack, state) || state == slotIdle {
			return false
		}
	}
	if ok {
		m.left.Store(true) // the slot may be another connection's by now
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
	if r.owed += r.part; r.owed < 1-1e-9 {
		return false
	}
	r.owed--
	return true
}
