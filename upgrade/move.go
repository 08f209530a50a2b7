package upgrade

import (
	"net"

	"github.com/midair-go/midair/upgrade/internal/handoff"
)

// The methods of Upgrader for servers.

// Move passes an idle connection to another generation. Idle means that nothing was read from the connection since the last
// request ended. If the connection has moved, Move closes it in this process and returns true. Otherwise Move returns false,
// and this process keeps the connection. Then the read deadline of c may be gone. Move is made for drain.Options.Move. It may be
// called for many connections at once: each waits until the other process has room for it. The wait has no limit, but it ends as
// soon as the client sends something: then Move returns false, and the server should serve the request and call Move again when
// c is idle. If the other process runs a build from before this behaviour, Move waits half a second at most. If c is a wrapper
// with a method NetConn, Move moves the connection inside the wrapper. Move does not move a TLS connection, because
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
// returns false, too: during a drain, call MoveWith again. If a candidate dies, the connections that it has written to are
// lost.
//
// After an abort or a Rollback, connections move to an older build. So the older build has to understand prefix too: first
// release a build that understands prefix and does not send it, and later a build that sends prefix.
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

// Broadcast sends a message to every other generation of the service that lives: to the main generation, to the candidate of an
// upgrade, and to all older generations that still drain. In each of these processes the function of [Upgrader.OnBroadcast]
// with the same name gets the message, normally within a millisecond. The functions of this process do not get it. If no other
// generation lives, Broadcast does nothing. The name has 1 to 128 bytes of UTF-8 text, and the data at most 16 KiB.
//
// Broadcast returns when the message is in the sockets of all receivers, and waits at most a second for receivers that do not
// read. It never waits for the functions of other processes. Then the message arrives even if this process is killed. The error
// names the generations that the message has not reached: a generation does not read, its build has no Broadcast, or the socket
// to it has ended although its process lives and its Run has not returned. A generation that did not read gets the message when
// it reads again, unless more than 1,024 messages or 1 MiB wait for it: the oldest messages are dropped then. The error is
// ErrClosed after Run has returned. Broadcast may be called before Run, and in every function of the program, also in a
// function of OnBroadcast, but not in the methods of kept values.
//
// The messages of a sender arrive in the order of the calls. Messages of several senders have no order: put a version or a time
// into the data if the order matters. A message is a change, and not the state: a generation that is started later does not get
// it, and needs the state by [Upgrader.Keep]. A candidate gets the messages that were sent since a second before its start. Of
// the messages from the time before it was connected to a sender, it gets at most the last 16 of each name. So a candidate may
// receive a message whose effect is part of its kept values already.
//
// A process that the supervisor starts after a crash gets the messages that the other living generations have sent in the last
// minute, at most the last 16 of each name. Some of them may have been sent before the crash. A process that restores its state
// from a file then gets messages whose effect is part of that state already: the effect of a message must not change if the
// message comes twice. There is no connection between this process and the generations from before the crash, and no error, if
// the supervisor runs a version of the library without Broadcast, or if more than 8 such generations live.
func (u *Upgrader) Broadcast(name string, data []byte) error {
	return u.estate.sendBroadcast(name, data)
}

// OnBroadcast makes fn the function that gets the messages that other generations send with [Upgrader.Broadcast] under a name.
// A further call for the same name replaces the function, and nil removes it. A name that Broadcast refuses is ignored.
// OnBroadcast never blocks, and may be called at any time. If there is no function for a name, the last 256 messages or 256 KiB
// wait for it, for at most 64 names: call OnBroadcast right after New, so that a candidate loses no message.
//
// The messages of a name are passed to fn one after the other, in a goroutine that is neither the goroutine of Run nor the one
// of another name. fn may keep data, may block, and may call all methods except Close. While fn runs, at most 1,024 messages or
// 1 MiB wait for it. Further messages replace the oldest ones; the number of dropped messages is logged. If fn returns an error
// or panics, the error is logged, once for several failures in a row, and fn gets the next message. At the end of Run, fn is
// not called any more. Run waits for a call that has begun, but not longer than a second.
func (u *Upgrader) OnBroadcast(name string, fn func(data []byte) error) {
	u.estate.broadcasts.Handle(name, fn)
}

// Assigned returns how chance has divided the connections of a progressive upgrade. It is made for a judge that compares the
// requests of both processes by a statistical test, and works in the old process and in the candidate.
//
// Chance decides about a new connection when the old process accepts the connection. Chance decides about an idle connection when
// the server offers the connection to Move, after a call of Candidate.SetWeight that has raised the weight.
//
// weight is the probability with which the candidate was to get the connection, whichever process has the connection now. For a
// new connection, weight is the weight w of the candidate. For an idle connection it is (w-v)/(1-v), where v is the weight before
// the call: the candidate did not get the connection at the weight v. unit is the client's address and port, which name the
// connection. With Options.Sticky, chance has assigned the client's address: unit is the address without the port, weight is w, and
// ok is false for idle connections, whose address had its place before.
//
// ok is true only for connections about which chance has decided since the last call of Candidate.SetWeight. All other
// connections must not be counted: those that the candidate has got since an earlier call, those that came back from the
// candidate, those that the candidate has accepted itself, and all others that are older than the last call. ok is false for all
// connections if Options.Split decides, if no Bake is under way, and after a commit or an abort. Call Assigned when a request
// begins. c may be a wrapper with a method NetConn.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) { return handoff.Assigned(c) }
