// Package life is the life of a connection of package drain as a table: for each state and each event the action that
// follows and the next state. The file states.md shows the table and a diagram; a test compares both with the code.
//
// The package holds no connection and no lock. Package drain keeps the state of each connection, calls [Next] under the
// lock of the connection, and carries out the action.
package life

import "fmt"

// A State is how far a connection is. The zero value is a connection that was just accepted for net/http.
type State uint8

// The states. In the first nine net/http owns the connection and reports its end.
const (
	// Fresh means that no byte of a first request was read.
	Fresh State = iota
	// Arriving means that a part of the first request, or of the TLS handshake before, was read.
	Arriving
	// Active means that a request is being answered.
	Active
	// Rested means that net/http has reported the connection as idle, and has not set the deadline of an idle connection.
	Rested
	// Idle means that net/http waits for the next request, and no byte of a request was read.
	Idle
	// Begun means that one to three bytes of the next request were read: with four, net/http sets another deadline.
	Begun
	// Noted means that a drain has found the bytes of Begun, and has given the connection another IdleGrace.
	Noted
	// Reading means that net/http reads the header of the next request.
	Reading
	// Parted means that a Read has decided the end of the connection: every Read gives io.EOF.
	Parted
	// Hijacked means that a handler has taken the connection over, or that another server than net/http serves it. The
	// connection ends with its Close.
	Hijacked
	// Raw means that a handler of ServeTCP serves the connection, and has not returned.
	Raw
	// Spent is Raw after a Read has decided the end: every Read gives io.EOF, and the handler may still write.
	Spent
	// Moved means that Move has taken the connection: its socket is not to be touched any more.
	Moved
	// Lingering means that Close was called, and the client is given time to read the last answer. The owner, net/http or
	// the handler of ServeTCP, has not given the connection up.
	Lingering
	// Released is Lingering after the owner has given the connection up.
	Released
	// Shut means that the socket is closed, and the owner has not given the connection up.
	Shut
	// Ended means that nothing of the connection is left.
	Ended

	states = iota
)

// An Event is what happens to a connection.
type Event uint8

// The events.
const (
	// Bytes means that a Read has read something.
	Bytes Event = iota
	// Deadline means that the owner has set a read deadline. After a Close or a Take a deadline is refused.
	Deadline
	// Find means that a Read which a drain interrupted has found a few bytes of the next request.
	Find
	// Part means that a Read which a drain interrupted has found that the connection can end.
	Part
	// Take means that Move has taken the connection.
	Take
	// Request means that net/http reports a request.
	Request
	// Rest means that net/http reports that the connection is idle.
	Rest
	// Hijack means that net/http has given the connection to a handler.
	Hijack
	// Close means that the connection is closed at once.
	Close
	// Linger means that the connection is closed so that the client can read the last answer.
	Linger
	// Lingered means that the time of Linger is over, and the socket is closed.
	Lingered
	// Cut means that a drain closes the connection whatever goes on.
	Cut
	// Release means that the owner has given the connection up: net/http reports the end, or the handler of ServeTCP has
	// returned.
	Release

	events = iota
)

// An Action is what package drain does when an event has happened.
type Action uint8

// The actions.
const (
	// Impossible marks an event that cannot happen in a state. If it happens, the state stays and nothing is done.
	Impossible Action = iota
	// Nothing is to be done.
	Nothing
	// Restore puts back the read deadline that the owner has asked for.
	Restore
	// Reset is Restore at the beginning of an idle time: Move may be asked again.
	Reset
	// Extend gives the connection another IdleGrace from now.
	Extend
	// EndRead makes this Read and all later ones give io.EOF.
	EndRead
	// NoteHijack tells the registry that net/http does not own the connection any more.
	NoteHijack
	// Drop closes the socket.
	Drop
	// DropUntrack closes the socket and takes the connection off the registry.
	DropUntrack
	// Discard starts to read and discard until the client closes; then it closes the socket.
	Discard
	// Untrack takes the connection off the registry.
	Untrack

	actions = iota
)

// A Step is a cell of the table: what is done, and the state after.
type Step struct {
	Do   Action
	Next State
}

// Next returns what follows an event in a state. An event that is impossible there changes nothing.
func Next(s State, e Event) Step {
	step := table[s][e]
	if step.Do == Impossible {
		step.Next = s
	}
	return step
}

// Reads reports whether a Read may still read from the socket.
func (s State) Reads() bool {
	return s != Parted && s != Spent && s != Moved && s != Lingering && s != Released
}

// EOF reports whether a Read gives io.EOF.
func (s State) EOF() bool { return s == Parted || s == Spent || s == Moved }

// Open reports whether neither Close nor Cut nor Take has happened.
func (s State) Open() bool { return s < Moved }

// Lingers reports whether the connection is kept for the last answer only.
func (s State) Lingers() bool { return s == Lingering || s == Released }

var (
	stateNames = [states]string{
		"Fresh", "Arriving", "Active", "Rested", "Idle", "Begun", "Noted", "Reading", "Parted",
		"Hijacked", "Raw", "Spent", "Moved", "Lingering", "Released", "Shut", "Ended",
	}
	eventNames = [events]string{
		"Bytes", "Deadline", "Find", "Part", "Take", "Request", "Rest", "Hijack", "Close", "Linger", "Lingered", "Cut", "Release",
	}
	actionNames = [actions]string{
		"Impossible", "Nothing", "Restore", "Reset", "Extend", "EndRead", "NoteHijack", "Drop", "DropUntrack", "Discard", "Untrack",
	}
)

// String returns the name of the state.
func (s State) String() string { return name(stateNames[:], int(s)) }

// String returns the name of the event.
func (e Event) String() string { return name(eventNames[:], int(e)) }

// String returns the name of the action.
func (a Action) String() string { return name(actionNames[:], int(a)) }

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprint(i)
}
