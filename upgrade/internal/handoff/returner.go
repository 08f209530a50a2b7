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

// Mover passes on an idle connection that the listener from has accepted, with the bytes that the server has read ahead. It
// reports whether another process has the connection now. Idle connections move to the candidate in a step of a bake
// (Dispatcher.Move), to the successor after a commit (Successor), and back to the old process after a lower weight or an abort
// (Returner.Move).
type Mover func(from listener.Origin, c net.Conn, ahead []byte) bool

// idleLimit and lastLimit are how long the sending of a connection waits for a busy process. idleLimit is short, because the
// server offers an idle connection again after a failure. lastLimit is for a connection with bytes ahead: the server offers
// such a connection only once, and its message takes more room. lastLimit is also for a connection that came to this process
// after the commit, because this process cannot serve it (see SendLate).
const (
	idleLimit = 50 * time.Millisecond
	lastLimit = 2 * time.Second
)

// Successor returns a Mover that passes idle connections to a process that has taken over, and never takes them back. If that
// process is busy, the Mover waits up to 50 milliseconds. For a connection with bytes ahead, which the new process is to read
// first, the Mover waits up to two seconds.
func Successor(to *wire.Link, t Takes) Mover {
	return func(from listener.Origin, c net.Conn, ahead []byte) bool {
		about := wire.ConnBody{Network: from.Network, Addr: from.Addr, Ahead: ahead}
		if !t.allow(&about, from.Others...) || !sendIdle(to, about, c) {
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

	mu   sync.Mutex
	part float64
	owed float64
}

// NewReturner makes a Returner for a step from one weight to a lower weight. The Returner sends back the part of the idle
// connections by which the weight shrinks. If to is 0, it sends all of them back.
func NewReturner(old *wire.Link, t Takes, choose Choice, from, to float64) *Returner {
	r := &Returner{to: old, takes: t, choose: choose, weight: to, part: 1}
	if to == 0 {
		r.choose = nil // all connections go back, even if choose would give them to this process
	}
	if from > 0 {
		r.part = (from - to) / from
	}
	return r
}

// Move decides whether an idle connection that the server offers goes back, and reports whether the old process has it now.
// Move is a Mover.
func (r *Returner) Move(ref listener.Origin, c net.Conn, ahead []byte) bool {
	about := wire.ConnBody{Network: ref.Network, Addr: ref.Addr, Ahead: ahead}
	if ref.Pinned || !r.takes.allow(&about, ref.Others...) || !r.chosen(c) {
		return false
	}
	m, ok := c.(*Conn)
	unread := false // true if this process has read nothing: the old process can serve the connection by its own descriptor
	if ok && m.Kept() {
		about.Slot = m.about.Slot
		unread = m.slot.CompareAndSwap(slotIdle, slotBack)
	}
	if !sendIdle(r.to, about, c) {
		state := slotIdle
		if unread && m.Kept() { // the old process uses its own descriptor: perhaps this process has no free descriptor to send
			state = slotRefused
		}
		if !unread || !m.slot.CompareAndSwap(slotBack, state) || state == slotIdle {
			return false
		}
	}
	if ok {
		m.left.Store(true) // the old process may use the slot for another connection after the move
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
