package upgrade

import (
	"net"

	"github.com/midair-go/midair/upgrade/internal/handoff"
)

// The methods of Upgrader for servers.

// Move offers an idle connection to another generation. Idle means that nothing was read from the connection since the last
// request ended. Move reports whether the other generation has taken the connection; if so, the connection is closed in this
// process. Move is made for drain.Options.Move, and may wait for some milliseconds. If c is a wrapper with a method NetConn,
// Move moves the connection inside the wrapper. Move does not move a TLS connection, because the keys of TLS are in this
// process. Move returns false if no other generation takes connections, and for a connection that no listener of this Upgrader
// has accepted.
func (u *Upgrader) Move(c net.Conn) bool { return u.traffic.move(c, nil) }

// MoveWith does the same as Move, for a connection whose protocol the program implements itself: raw TCP, or a WebSocket that a
// handler has hijacked. Call MoveWith between two messages, in the goroutine that reads from the connection and writes to it:
// each time that Rebalance sends a value, and when serve's context has ended. Package drain shows the end of the context by
// Begun of its notice. Call MoveWith also for connections that Accept returns after the end of the context.
//
// In the other process, the listener of the server of package drain returns the connection from Accept. That process reads
// prefix first, and then the bytes from the client. prefix has to contain the bytes of an unfinished message that this process
// has already read, and all other data that the program needs to go on. For a WebSocket, prefix has to be an HTTP request,
// because an HTTP server reads it; put the state of the WebSocket into a header. The handler must not answer this request with
// 101: it learns from [Upgrader.HasCarriedBytes] that the request does not come from the client, and has to hijack or close the
// connection. Set KeepWebSockets of package drain, so that package drain leaves WebSockets to the program.
//
// MoveWith returns false if prefix has more than 16 KiB, if the other process does not serve the listener of c by package
// drain, and if the other process does not read for two seconds. In this last case, call MoveWith again during a drain. An
// abort and Rollback move connections to an older build: first release a build that understands prefix, and then a build that
// sends prefix. If a candidate dies, the connections that it has written to are lost.
func (u *Upgrader) MoveWith(c net.Conn, prefix []byte) bool { return u.traffic.move(c, prefix) }

// HasCarriedBytes reports whether c has moved here from another generation with a prefix (see MoveWith). If so, the first
// bytes of c do not come from the client. c may be a wrapper with a method NetConn. For example, c may be the connection
// that Hijack returns or that http.Server.ConnContext gets.
func (u *Upgrader) HasCarriedBytes(c net.Conn) bool {
	return handoff.Carries(c)
}

// Rebalance returns a channel that gets a value each time the server should call Move for every idle connection, because the
// weight of a candidate has changed. Rebalance is made for drain.Options.Rebalance. Each call returns a new channel, for one
// receiver.
func (u *Upgrader) Rebalance() <-chan struct{} { return u.traffic.rebalance() }

// Hurry returns a channel that is closed when this generation should close its idle connections at once, because it is among
// the oldest of more than Options.MaxGenerations. Hurry is made for drain.Options.Hurry.
func (u *Upgrader) Hurry() <-chan struct{} { return u.traffic.hurry }

// Publish sends a message from a candidate to the old process, for the subscribers of the name. Publish waits for a millisecond
// at most. It returns ErrNotReady if this process is no candidate. It returns another error if the message has more than 16
// KiB, or if the message was dropped because the old process reads too slowly.
func (u *Upgrader) Publish(name string, data []byte) error { return u.traffic.publish(name, data) }

// Assigned describes why a connection was moved to this process in a progressive upgrade: unit is the client's address, by
// which the upgrade divides the traffic, and weight is the weight of the candidate when the connection was moved. ok is false
// for a connection that this process has accepted itself. c may be a wrapper with a method NetConn.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) { return handoff.Assigned(c) }
