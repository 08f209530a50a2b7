package upgrade

import (
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// setMover says what Move does from now on; nil: nothing.
func (u *Upgrader) setMover(m handoff.Mover) {
	if m == nil {
		u.mover.Store(nil)
	} else {
		u.mover.Store(&m)
	}
}

// Move offers an idle connection, of which nothing was read since its last request ended, to another generation, and
// reports whether that one has it now; then it is closed here and open there. It is made for drain.Options.Move, and may
// wait for some milliseconds. Wrappers with a method NetConn are looked through, but for TLS, whose keys are in this process.
// It is false while there is nobody to move to, and for a connection that no listener of this Upgrader has accepted.
func (u *Upgrader) Move(c net.Conn) bool { return u.MoveWith(c, nil) }

// aheadLimit is what fits into a frame beside the rest of it, in base64.
const aheadLimit = 16 << 10

// MoveWith is Move for a connection whose protocol is the program's own: raw TCP, or a WebSocket that a handler has
// taken over. It is to be called between two messages, by who reads the connection and writes to it, each time that
// Offers says so and when serve's context has ended, also of those that Accept returns after that: with package drain,
// when the notice says Begun. The connection comes out of the server of package drain in the other process, where ahead is read before
// what the client sends: bytes of a message that were read here already, and whatever else the program there needs to go on.
// For a WebSocket that is a request, since an HTTP server reads it, with a header for the state and without the answer
// 101: [Upgrader.Carries] tells its handler that it does not come from the client, and that handler has to take the
// connection over or to close it. Package drain has to leave WebSockets to the program (KeepWebSockets).
//
// It is false for more than 16 KiB, if package drain does not serve that listener there, and while the other process does not keep
// up, which it waits for, at most two seconds: in a drain it is worth another try. An abort and Rollback bring connections to a build before this one: release one that
// understands what is ahead before the one that sends it. A candidate that dies loses those that it has talked on.
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

// Carries reports whether what is read first from c was given to MoveWith by another generation, and comes from no client.
// Wrappers with a method NetConn are looked through, so the connection of Hijack and that of http.Server.ConnContext will do.
func (u *Upgrader) Carries(c net.Conn) bool {
	return handoff.Carries(c)
}

// Offers returns a channel on which something comes when the server should offer every idle connection to Move once: the
// weight of a candidate has changed. It is made for drain.Options.Offers. Each call makes a channel for one receiver.
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

// awaitMoves returns when everybody who moves has seen what the mover is now.
func (u *Upgrader) awaitMoves() {
	u.moving.Lock()
	defer u.moving.Unlock()
}

// sendBack makes Move send connections back to the old process: a part of them for a change of the weight, all at weight 0.
func (u *Upgrader) sendBack(t handoff.Takes, from, to float64) {
	u.setMover(handoff.NewReturner(u.parent, t, u.opts.choice(), from, to).Move)
}

// serveDialed serves a private connection of the old process, and returns the answer.
func serveDialed(set *listener.Set, f wire.Frame) wire.DialedBody {
	var body wire.DialBody
	err := f.Decode(&body)
	if err == nil && len(f.Files) == 0 {
		err = errors.New("no connection came along")
	}
	if err == nil {
		err = set.Give(body.Network, body.Addr, f.Files[0])
	}
	reply := wire.DialedBody{ID: body.ID}
	if err != nil {
		reply.Error = wire.Clip(err.Error())
	}
	return reply
}

// logInherited logs what of the old process could not be taken. That is not worth a failure.
func logInherited(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("upgrade: not all of what the old process left could be taken", "err", err)
	}
}

// oldProcess is what a candidate knows of the old process, beside the link to it.
type oldProcess struct {
	takes     handoff.Takes    // which connections it can be given back
	sharing   *handoff.Sharing // of connections with it, while this candidate is tried with a weight
	heartbeat *time.Ticker     // when to tell it that this process lives; nil: it does not want to know
}

// share begins to take connections of the old process, and to tell it that this one is alive.
func (o *oldProcess) share(f wire.Frame) error {
	if len(f.Files) == 0 {
		return wire.ErrFrame
	}
	s, err := handoff.NewSharing(f.Files[0])
	if err != nil {
		return err
	}
	o.sharing, o.heartbeat = s, time.NewTicker(beatEvery)
	return nil
}

// beatEvery is how often a candidate says that it is alive.
const beatEvery = 100 * time.Millisecond

// heartbeats returns the channel of the ticks; nil if the old process does not want to know.
func (o *oldProcess) heartbeats() <-chan time.Time {
	if o.heartbeat == nil {
		return nil
	}
	return o.heartbeat.C
}

// endHeartbeat ends the ticks.
func (o *oldProcess) endHeartbeat() {
	if o.heartbeat != nil {
		o.heartbeat.Stop()
		o.heartbeat = nil
	}
}

// Assigned tells how a connection came to this process in a progressive upgrade: the client's address, which is the unit
// that the upgrade splits, and the weight of the candidate at that time. ok is false for a connection that this process
// has accepted itself. Wrappers with a method NetConn are looked through.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) { return handoff.Assigned(c) }
