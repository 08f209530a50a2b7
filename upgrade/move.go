package upgrade

import (
	"net"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// setMover sets what Move does from now on; nil: nothing.
func (u *Upgrader) setMover(m handoff.Mover) {
	if m == nil {
		u.mover.Store(nil)
	} else {
		u.mover.Store(&m)
	}
}

// Move offers an idle connection to another generation. Idle means that nothing was read from the connection since the last
// request ended. Move reports whether the other generation has the connection now; then the connection is closed here and
// open there. Move is made for drain.Options.Move, and may wait for some milliseconds. Wrappers with a method NetConn are
// looked through, except TLS, whose keys are in this process. Move returns false while there is no other generation to move
// to, and for a connection that no listener of this Upgrader has accepted.
func (u *Upgrader) Move(c net.Conn) bool { return u.MoveWith(c, nil) }

// aheadLimit is the room in a message for ahead, in base64.
const aheadLimit = 16 << 10

// MoveWith is Move for a connection whose protocol belongs to the program: raw TCP, or a WebSocket that a handler has
// hijacked. Call MoveWith between two messages, in the goroutine that reads from the connection and writes to it, each time
// that Offers sends a value and when serve's context has ended, also for the connections that Accept returns after that:
// with package drain, when the notice has Begun. The server of package drain in the other process returns the connection
// from Accept. That process reads ahead first, and then what the client sends: put the bytes of a message there that this
// process has read already, and everything else that the program needs to go on. For a WebSocket, ahead is a request, since
// an HTTP server reads ahead, with the state in a header and without the answer 101: the handler learns from
// [Upgrader.Carries] that the request does not come from the client, and has to hijack or close the connection. Package
// drain has to leave WebSockets to the program (KeepWebSockets).
//
// MoveWith returns false for more than 16 KiB, if package drain does not serve that listener in the other process, and if
// the other process does not keep up for two seconds: during a drain, try again then. An abort and Rollback move connections
// to an older build: release a build that understands ahead before the build that sends ahead. A candidate that dies loses
// the connections that the candidate has written to.
func (u *Upgrader) MoveWith(c net.Conn, ahead []byte) bool {
	u.moving.RLock()
	defer u.moving.RUnlock()
	m := u.mover.Load()
	if c = handoff.Lowest(c); m == nil || c == nil {
		return false
	}
	if unread := handoff.Unread(c); len(unread) > 0 { // what it brought itself and nobody has read
		ahead = append(ahead[:len(ahead):len(ahead)], unread...)
	}
	from, ok := u.listeners.Of(c)
	return ok && len(ahead) <= aheadLimit && (*m)(from, c, ahead)
}

// Carries reports whether the first bytes of c were given to MoveWith by another generation, and do not come from the
// client. Wrappers with a method NetConn are looked through, so the connections of Hijack and of http.Server.ConnContext are
// accepted too.
func (u *Upgrader) Carries(c net.Conn) bool {
	return handoff.Carries(c)
}

// Offers returns a channel that receives a value each time the server should call Move for every idle connection: the weight
// of a candidate has changed. Offers is made for drain.Options.Offers. Each call makes a channel for a single receiver.
func (u *Upgrader) Offers() <-chan struct{} {
	ch := make(chan struct{}, 1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.offers = append(u.offers, ch)
	return ch
}

func (u *Upgrader) offer() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, ch := range u.offers {
		select {
		case ch <- struct{}{}:
		default: // it has not looked since the last time
		}
	}
}

// awaitMoves returns when every call of Move uses the current mover.
func (u *Upgrader) awaitMoves() {
	u.moving.Lock()
	defer u.moving.Unlock()
}

// sendBack makes Move send back what the old process is to have: all of it at weight 0.
func (r *runner) sendBack(from, to float64) {
	r.u.setMover(handoff.NewReturner(r.u.parent, r.oldTakes, r.u.opts.choice(), from, to).Move)
}

// moved takes a connection that another generation has passed to this one.
func (r *runner) moved(f wire.Frame) {
	var about wire.ConnBody
	if f.Decode(&about) != nil {
		return
	}
	switch {
	case len(f.Files) == 0:
		switch kept := r.sharing.Refuse(about.Slot); {
		case r.role == roleCandidate: // it would have no room for what comes with the commit either
			r.fail(PhaseBake, wire.ErrMissing)
		case !kept:
			r.u.log.Error("upgrade: a connection is lost that another generation has passed on", "err", wire.ErrMissing)
		}
	case r.role == roleLeaving && r.serves() != nil: // what came after the commit, or after an orphan was dismissed
		if !handoff.SendLate(r.serves(), about, f.Files[0]) {
			r.u.log.Error("upgrade: a connection is lost that came late: the process that serves does not take it")
		}
	case r.role == roleLeaving || handoff.GiveMoved(r.u.listeners, about, f.Files[0], r.sharing) != nil:
		r.sharing.Refuse(about.Slot) // one that the old process has kept no descriptor of is lost
	}
}

// serves is the link to the process that serves in place of this one; nil if there is none.
func (r *runner) serves() *wire.Link {
	switch {
	case r.successor != nil:
		return r.successor.link
	case r.dismissal:
		return r.u.parent
	}
	return nil
}

// shares begins to take connections of the old process, and to tell it that this one is alive.
func (r *runner) shares(f wire.Frame) error {
	if len(f.Files) == 0 {
		return wire.ErrFrame
	}
	s, err := handoff.NewSharing(f.Files[0])
	if err != nil {
		return err
	}
	r.sharing, r.opened = s, true
	r.pulse = time.NewTicker(beatEvery)
	return nil
}

// beats is when to do so; never before shares.
func (r *runner) beats() <-chan time.Time {
	if r.pulse == nil {
		return nil
	}
	return r.pulse.C
}

// Assigned returns how a connection came to this process in a progressive upgrade: the client's address, which is the unit
// that the upgrade splits, and the weight of the candidate at that time. ok is false for a connection that this process has
// accepted itself. Wrappers with a method NetConn are looked through.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) { return handoff.Assigned(c) }

// weighed gives back a part of the idle connections.
func (r *runner) weighed(f wire.Frame) {
	var w wire.WeightBody
	if f.Decode(&w) == nil {
		r.sendBack(w.From, w.To)
		r.u.offer()
	}
}
