package handoff

import (
	"net"
	"runtime"
	"sync"
	"weak"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A program that calls Accept gets a connection of package net and not the Conn. Such a connection has no field for the facts
// that the old process has sent about the connection. So the map known holds these facts, until the connection is
// garbage-collected.

// told is what the old process has sent about a connection.
type told struct {
	unit    string
	weight  float64
	carries bool // the connection came with bytes that are to be read before the socket is read
}

// known maps a connection to its told. The key is a weak pointer to the connection.
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

// Assigned returns what the old process has sent about a connection: the unit, and the weight when the old process passed the
// connection. ok is false if no unit was sent, for example because the connection was accepted here. See Assigned of package
// upgrade.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) {
	t := recall(c)
	return t.unit, t.weight, t.unit != ""
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
