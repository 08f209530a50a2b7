package upgrade

import (
	"net"

	"github.com/midair-go/midair/upgrade/internal/handoff"
)

// The methods of Upgrader for servers.

// Move offers an idle connection to another generation. Idle means that nothing was read from the connection since the last
// request ended. Move reports whether the other generation has the connection now; then the connection is closed here and
// open there. Move is made for drain.Options.Move, and may wait for some milliseconds. Wrappers with a method NetConn are
// looked through, except TLS, whose keys are in this process. Move returns false while there is no other generation to move
// to, and for a connection that no listener of this Upgrader has accepted.
func (u *Upgrader) Move(c net.Conn) bool { return u.traffic.move(c, nil) }

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
func (u *Upgrader) MoveWith(c net.Conn, prefix []byte) bool { return u.traffic.move(c, prefix) }

// HasCarriedBytes reports whether the first bytes of c were given to MoveWith by another generation, and do not come from the
// client. Wrappers with a method NetConn are looked through, so the connections of Hijack and of http.Server.ConnContext are
// accepted too.
func (u *Upgrader) HasCarriedBytes(c net.Conn) bool {
	return handoff.Carries(c)
}

// Rebalance returns a channel that receives a value each time the server should call Move for every idle connection: the weight
// of a candidate has changed. Rebalance is made for drain.Options.Rebalance. Each call makes a channel for a single receiver.
func (u *Upgrader) Rebalance() <-chan struct{} { return u.traffic.rebalance() }

// Hurry returns a channel that is closed when this generation should close its idle connections at once, because it is among
// the oldest of more than Options.MaxGenerations. Hurry is made for drain.Options.Hurry.
func (u *Upgrader) Hurry() <-chan struct{} { return u.traffic.hurry }

// Publish sends a message from a candidate to the old process, for a subscriber of the name. Publish waits for a millisecond at
// most. ErrNotReady: this process is no candidate. Another error: the message has more than 16 KiB, or was dropped because the old
// process does not keep up.
func (u *Upgrader) Publish(name string, data []byte) error { return u.traffic.publish(name, data) }

// Assigned returns how a connection came to this process in a progressive upgrade: the client's address, which is the unit
// that the upgrade splits, and the weight of the candidate at that time. ok is false for a connection that this process has
// accepted itself. Wrappers with a method NetConn are looked through.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) { return handoff.Assigned(c) }
