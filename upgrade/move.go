package upgrade

import (
	"net"

	"github.com/midair-go/midair/upgrade/internal/handoff"
)

// The methods of Upgrader for servers.

// Move passes an idle connection to another generation. Idle means that nothing was read from the connection since the last
// request ended. If the connection has moved, Move closes it in this process and returns true. Otherwise Move returns false,
// and this process keeps the connection. Move is made for drain.Options.Move, and may wait for some milliseconds. If c is a
// wrapper with a method NetConn, Move moves the connection inside the wrapper. Move does not move a TLS connection, because
// the keys of TLS are in this process. Move returns false if no other generation takes connections, and for a connection that
// no listener of this Upgrader has accepted.
func (u *Upgrader) Move(c net.Conn) bool { return u.traffic.move(c, nil) }

// MoveWith does the same as Move, for a connection whose protocol the program implements itself: raw TCP, or a WebSocket that
// a handler has hijacked. Call MoveWith between two messages, in the goroutine that reads from the connection and writes to
// it: each time that Rebalance sends a value, and when serve's context has ended. A handler of package drain learns of the end
// of the context by drain.FromContext: the channel of Begun is closed. Call MoveWith also for connections that Accept returns
// after the end of the context.
//
// In the other process, a server of package drain accepts the connection. It reads prefix first, and then the bytes from the
// client. prefix has to contain the bytes of an unfinished message that this process has already read, and all other data that
// the program needs to go on. For a WebSocket, prefix has to be an HTTP request, because an HTTP server reads it; put the
// state of the WebSocket into a header. The handler must not answer this request with 101: it learns from
// [Upgrader.HasCarriedBytes] that the request does not come from the client, and has to hijack or close the connection. Set
// KeepWebSockets of package drain, so that package drain leaves WebSockets to the program.
//
// MoveWith returns false in the same cases as Move. It also returns false if prefix has more than 16 KiB, or if the other
// process does not serve the listener of c by package drain. If the other process reads nothing for two seconds, MoveWith
// returns false, too: during a drain, call MoveWith again. An abort and Rollback move connections to an older build: first
// release a build that understands prefix, and then a build that sends prefix. If a candidate dies, the connections that it
// has written to are lost.
func (u *Upgrader) MoveWith(c net.Conn, prefix []byte) bool { return u.traffic.move(c, prefix) }

// HasCarriedBytes reports whether c has moved here from another generation with a prefix (see MoveWith). If so, the first
// bytes of c do not come from the client. c may be a wrapper with a method NetConn. For example, c may be the connection
// that Hijack returns or that http.Server.ConnContext gets.
func (u *Upgrader) HasCarriedBytes(c net.Conn) bool {
	return handoff.Carries(c)
}

// Rebalance returns a channel. When the weight of a candidate has changed, the channel gets a value, and the server should
// call Move for every idle connection. Rebalance is made for drain.Options.Rebalance. Each call returns a new channel, for one
// receiver.
func (u *Upgrader) Rebalance() <-chan struct{} { return u.traffic.rebalance() }

// Hurry returns a channel that is closed when this generation should close its idle connections at once. This happens if there
// are more generations than Options.MaxGenerations, and this generation is one of the oldest. Hurry is made for
// drain.Options.Hurry.
func (u *Upgrader) Hurry() <-chan struct{} { return u.traffic.hurry }

// Publish sends a message from a candidate to the old process, for the subscribers of the name. Publish waits for a millisecond
// at most. It returns ErrNotReady if this process is no candidate. It returns another error if the message has more than 16
// KiB, or if the message was dropped because the old process reads too slowly.
func (u *Upgrader) Publish(name string, data []byte) error { return u.traffic.publish(name, data) }

// Assigned describes a connection that the old process has moved to this process, the candidate of a progressive upgrade. unit
// is the client's address without the port, by which Options.Sticky divides the traffic. weight is the weight that the
// candidate had when the connection was moved. For other connections, ok is false. c may be a wrapper with a method NetConn.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) { return handoff.Assigned(c) }
