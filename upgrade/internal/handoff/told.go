package handoff

import (
	"net"
	"runtime"
	"sync"
	"weak"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// What was said of a connection stays known when the program has it in package net's own type, as it came out of Accept or of
// http.Server.ConnContext: by the pointer, until the connection is collected.

// told is the knowledge that came with a connection.
type told struct {
	unit    string
	weight  float64
	carries bool // bytes to be read first
}

// known has what was told of connections, by weak pointers to them.
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

// recall looks through wrappers for a connection of which something was told.
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

// Assigned returns the unit and the weight by which the old process has passed a connection. See Assigned of package upgrade.
func Assigned(c net.Conn) (unit string, weight float64, ok bool) {
	t := recall(c)
	return t.unit, t.weight, t.unit != ""
}

// Carries reports whether a connection came with bytes to be read first.
func Carries(c net.Conn) bool { return recall(c).carries }

// Unread is the rest of the bytes that came with a connection.
func Unread(c net.Conn) []byte {
	if m, ok := c.(*Conn); ok {
		return m.ahead
	}
	return nil
}
