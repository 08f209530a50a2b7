// Package life has a table of the life of a connection of package drain. For each state and each event, the table has the
// action to do and the next state. The file states.md shows the table and a diagram, and a test compares both with the code.
//
// The package has no connection and no lock. Package drain stores the state of each connection, calls [Next] under the lock
// of the connection, and does the action.
package life

import "fmt"

// A State is a state of a connection. The zero value is the state of a connection that was just accepted for net/http.
type State uint8

// The states. In the states from Fresh to Parted, net/http owns the connection and reports its end.
const (
	// Fresh means that no byte of a first request was read.
	Fresh State = iota
	// Arriving means that a part of the first request, or of the TLS handshake before it, was read.
	Arriving
	// Active means that a request is being answered.
	Active
	// Rested means that net/http has reported the connection as idle, and has not yet set the deadline of an idle connection.
	Rested
	// Idle means that net/http waits for the next request, and no byte of a request was read.
	Idle
	// Begun means that one to three bytes of the next request were read. With four bytes, net/http sets the deadline for the
	// header.
	Begun
	// Noted means that a drain has found one to three bytes of the next request, and has given the connection another
	// IdleGrace.
	Noted
	// Reading means that net/http reads the header of the next request.
	Reading
	// Parted means that a drain has ended the connection by a Read: from now on, every Read gives io.EOF.
	Parted
	// Hijacked means that a handler has taken the connection over, or that another server than net/http serves it. The
	// connection ends with its Close.
	Hijacked
	// Raw means that a handler of ServeTCP serves the connection, and has not returned.
	Raw
	// Spent is the state after Raw if a drain has ended the connection by a Read. Every Read gives io.EOF, but the handler
	// may still write.
	Spent
	// Moved means that Move has taken the connection: its socket must not be used any more.
	Moved
	// Lingering means that Close was called, and the client is given time to read the last answer. The owner, net/http or
	// the handler of ServeTCP, has not released the connection yet.
	Lingering
	// Released is the state after Lingering if the owner has released the connection, but the client still has time to read.
	// After Hijacked, Linger leads to Released directly.
	Released
	// Shut means that the socket is closed, but the owner has not released the connection yet.
	Shut
	// Ended means that the socket is closed, the owner has released the connection, and it is off the registry.
	Ended

	states = iota
)

// An Event is what happens to a connection.
type Event uint8

// The events.
const (
	// Bytes means that a Read has read something.
	Bytes Event = iota
	// Deadline means that the owner has set a read deadline. After Close, Linger, Cut or Take, deadlines are refused.
	Deadline
	// Find means that a drain has interrupted a Read, and one to three bytes of the next request were found.
	Find
	// Part means that a drain has interrupted a Read, and the Read has decided that the connection ends.
	Part
	// Take means that Move has taken the connection.
	Take
	// Request means that net/http reports a request.
	Request
	// Rest means that net/http reports that the connection is idle.
	Rest
	// Hijack means that net/http has given the connection to a handler.
	Hijack
	// Close means that the owner has called Close, and the socket is to be closed at once.
	Close
	// Linger means that the owner has called Close, and the client is to be given time to read the last answer.
	Linger
	// Lingered means that the socket was closed after Linger: the client has closed, or its time to read is over.
	Lingered
	// Cut means that a drain closes the connection at once, even if it is in use.
	Cut
	// Release means that the owner has released the connection: net/http has reported the end, or the handler of ServeTCP has
	// returned.
	Release

	events = iota
)

// An Action is what package drain does when an event has happened.
type Action uint8

// The actions.
const (
	// Impossible marks an event that cannot happen in a state. If it happens, nothing is done and the state does not change.
	Impossible Action = iota
	// Nothing means that there is nothing to do.
	Nothing
	// Restore sets the read deadline that the owner has asked for, after an interruption of a Read.
	Restore
	// Reset does the same as Restore. It also notes that an idle time begins, in which Move may be asked again.
	Reset
	// Extend gives the connection another IdleGrace, which begins now.
	Extend
	// EndRead makes the interrupted Read return io.EOF. All later Reads return io.EOF too.
	EndRead
	// NoteHijack tells the registry that net/http does not own the connection any more.
	NoteHijack
	// Drop closes the socket.
	Drop
	// DropUntrack closes the socket and takes the connection off the registry.
	DropUntrack
	// Discard starts a goroutine that reads and discards until the client has closed or the time for this is over, and then
	// closes the socket.
	Discard
	// Untrack takes the connection off the registry.
	Untrack

	actions = iota
)

// A Step is a cell of the table: the action to do, and the next state.
type Step struct {
	Do   Action
	Next State
}

// Next returns the action and the next state for an event in a state. An event that is impossible in s changes nothing.
func Next(s State, e Event) Step {
	step := table[s][e]
	if step.Do == Impossible {
		step.Next = s
	}
	return step
}

// Reads reports whether Read may still read from the socket. It returns true for Shut and Ended too: in these states the socket
// is closed, and the Read of the socket returns an error.
func (s State) Reads() bool {
	return s != Parted && s != Spent && s != Moved && s != Lingering && s != Released
}

// EOF reports whether Read returns io.EOF without reading from the socket.
func (s State) EOF() bool { return s == Parted || s == Spent || s == Moved }

// Open reports whether none of the events Close, Linger, Cut, Take and Release has happened.
func (s State) Open() bool { return s < Moved }

// Lingers reports whether the connection is still open for one purpose only: the client has time to read the last answer.
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
