package handoff

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A program that calls Accept gets a connection of package net and not the Conn. Such a connection has no field for the facts
// about the connection that this process has to remember. So the map known holds these facts, until the connection is
// garbage-collected.

// told is what is known about a connection: what the other process has sent, or how chance has assigned the connection here.
type told struct {
	unit    string
	weight  float64 // the probability with which chance has assigned the connection to the candidate
	turn    turn    // the turn of this assignment; the zero value if there was none
	carries bool    // the connection came with bytes that are to be read before the socket is read
}

// A turn begins with each SetWeight of the Dispatcher, and ends with the next SetWeight and with Stop. In a turn, chance decides
// about a connection at most once: when the old process accepts the connection, or when the server offers it as idle.
//
// Assigned knows the connections of the present turn only. A connection that the candidate has since an earlier turn must not be
// counted: about the other connections of its time, which the old process has kept, chance decides again in this turn. The
// candidate then gets such a connection with the probability of Dispatcher.part, and not of the weight. If the earlier
// connections of the candidate were counted as well, the candidate's share of the counted connections would be greater than the
// stated probability.
type turn struct {
	number uint32
	now    *atomic.Uint32 // the number of the present turn; 0: there is none. In the candidate this is the first word of Slots
}

// present reports whether the turn goes on.
func (t turn) present() bool { return t.number != 0 && t.now != nil && t.now.Load() == t.number }

// known maps a connection to its told. The key is a weak pointer to the connection.
var known sync.Map

// remember notes what another process has sent about a connection of package net. s may be nil.
func remember(c net.Conn, about wire.ConnBody, s *Sharing) {
	t := told{carries: len(about.Ahead) > 0}
	if s != nil && about.Turn > 0 {
		t.unit, t.weight, t.turn = about.Unit, about.Weight, turn{uint32(about.Turn), s.slots.turn()}
	}
	if t != (told{}) {
		note(c, t)
	}
}

// assign notes that chance has decided about a connection of package net, and that this process keeps the connection.
func assign(c net.Conn, unit string, weight float64, t turn) {
	note(c, told{unit, weight, t, recall(c).carries})
}

func note(c net.Conn, t told) {
	switch c := c.(type) {
	case *net.TCPConn:
		put(c, t)
	case *net.UnixConn:
		put(c, t)
	}
}

func put[T any](c *T, t told) {
	key := weak.Make(c)
	if _, replaced := known.Swap(key, t); !replaced {
		runtime.AddCleanup(c, known.Delete, any(key))
	}
}

// recall unwraps c by calling NetConn, until it finds a connection in known. If it finds no such connection, it returns a zero
// told.
func recall(c net.Conn) (t told) {
	for {
		var v any
		switch c := c.(type) {
		case *net.TCPConn:
			v, _ = known.Load(weak.Make(c))
		case *net.UnixConn:
			v, _ = known.Load(weak.Make(c))
		}
		if t, ok := v.(told); ok {
			return t
		}
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return told{}
		}
		c = w.NetConn()
	}
}

// Assigned returns the unit of a connection, and the probability with which chance has assigned the connection to the candidate
// in the present turn. ok is false if chance has not decided about the connection in this turn. See Assigned of package upgrade.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) {
	t := recall(c)
	if t.unit == "" || !t.turn.present() {
		return "", 0, false
	}
	return t.unit, t.weight, true
}

// Carries reports whether a connection came with bytes that are to be read before the socket is read.
func Carries(c net.Conn) bool { return recall(c).carries }

// Unread returns the bytes that came with c and were not read yet. It returns nil if c is not a *Conn.
func Unread(c net.Conn) []byte {
	if m, ok := c.(*Conn); ok {
		return m.ahead
	}
	return nil
}
