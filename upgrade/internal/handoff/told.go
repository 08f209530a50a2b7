package handoff

import (
	"net"
	"runtime"
	"sync"
	"weak"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A program may have a connection of package net and not the Conn, because Accept returns the connection of package net. The
// map known has what the old process has sent about such a connection. The key is a weak pointer to the connection, and the
// entry is removed when the connection is garbage-collected.

// told is what the old process has sent about a connection.
type told struct {
	unit    string
	weight  float64
	carries bool // the connection came with bytes that are to be read first
}

// known is a map. A key is a weak pointer to a connection, and the value is the told of this connection.
var known sync.Map

func remember(c net.Conn, about wire.ConnBody) {
	t := told{about.Unit, about.Weight, len(about.Ahead) > 0}
	if t == (told{}) {
		return
	}
	switch c := c.(type) {
	case *net.TCPConn:
		put(c, t)
	case *net.UnixConn:
		put(c, t)
	}
}

func put[T any](c *T, t told) {
	key := weak.Make(c)
	known.Store(key, t)
	runtime.AddCleanup(c, known.Delete, any(key))
}

// recall unwraps c by calling NetConn, until it finds a connection in known. It returns a zero told if it finds none.
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

// Assigned returns the unit of a connection and the weight at which the old process has passed it. ok is false if the old
// process has not passed the connection. See Assigned of package upgrade.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) {
	t := recall(c)
	return t.unit, t.weight, t.unit != ""
}

// Carries reports whether a connection came with bytes that are to be read first.
func Carries(c net.Conn) bool { return recall(c).carries }

// Unread returns the bytes that came with a connection and were not read yet.
func Unread(c net.Conn) []byte {
	if m, ok := c.(*Conn); ok {
		return m.ahead
	}
	return nil
}
