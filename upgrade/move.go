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

// prefixLimit is the room in a message for prefix, in base64.
const prefixLimit = 16 << 10

// MoveWith is Move for a connection whose protocol belongs to the program: raw TCP, or a WebSocket that a handler has
// hijacked. Call MoveWith between two messages, in the goroutine that reads from the connection and writes to it, each time
// that Rebalance sends a value and when serve's context has ended, also for the connections that Accept returns after that:
// with package drain, when the notice has Begun. The server of package drain in the other process returns the connection
// from Accept. That process reads prefix first, and then what the client sends: put the bytes of a message there that this
// process has read already, and everything else that the program needs to go on. For a WebSocket, prefix is a request, since
// an HTTP server reads prefix, with the state in a header and without the answer 101: the handler learns from
// [Upgrader.HasCarriedBytes] that the request does not come from the client, and has to hijack or close the connection. Package
// drain has to leave WebSockets to the program (KeepWebSockets).
//
// MoveWith returns false for more than 16 KiB, if package drain does not serve that listener in the other process, and if
// the other process does not keep up for two seconds: during a drain, try again then. An abort and Rollback move connections
// to an older build: release a build that understands prefix before the build that sends prefix. A candidate that dies loses
// the connections that the candidate has written to.
func (u *Upgrader) MoveWith(c net.Conn, prefix []byte) bool {
	u.moving.RLock()
	defer u.moving.RUnlock()
	m := u.mover.Load()
	if c = handoff.Lowest(c); m == nil || c == nil {
		return false
	}
	if unread := handoff.Unread(c); len(unread) > 0 { // what it brought itself and nobody has read
		prefix = append(prefix[:len(prefix):len(prefix)], unread...)
	}
	from, ok := u.listeners.Of(c)
	return ok && len(prefix) <= prefixLimit && (*m)(from, c, prefix)
}

// HasCarriedBytes reports whether the first bytes of c were given to MoveWith by another generation, and do not come from the
// client. Wrappers with a method NetConn are looked through, so the connections of Hijack and of http.Server.ConnContext are
// accepted too.
func (u *Upgrader) HasCarriedBytes(c net.Conn) bool {
	return handoff.Carries(c)
}

// Rebalance returns a channel that receives a value each time the server should call Move for every idle connection: the weight
// of a candidate has changed. Rebalance is made for drain.Options.Rebalance. Each call makes a channel for a single receiver.
func (u *Upgrader) Rebalance() <-chan struct{} {
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

// Assigned returns how a connection came to this process in a progressive upgrade: the client's address, which is the unit
// that the upgrade splits, and the weight of the candidate at that time. ok is false for a connection that this process has
// accepted itself. Wrappers with a method NetConn are looked through.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) { return handoff.Assigned(c) }
