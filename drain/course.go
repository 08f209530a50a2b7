package drain

import (
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

const (
	// silentTime is how long a connection that never sent anything is given, if Options.IdleGrace does not say so.
	silentTime = 800 * time.Millisecond
	// hurriedGrace takes the place of IdleGrace after Hurry. A client that asks again and again has a request on its
	// way most of the time, and the request would be lost.
	hurriedGrace = 500 * time.Millisecond
)

// A course is how far the drain of a Server is, and what the connections of the Server have to know of the drain.
type course struct {
	stage   atomic.Int32  // of type stage
	hurried atomic.Bool   // Options.Hurry was closed, or has sent something
	latest  time.Time     // when idle connections have to go, so that Grace does not cut them; written before the stage rises
	began   chan struct{} // closed when the drain begins
	told    Notice        // of the drain, for handlers and jobs

	idle           time.Duration       // Options.IdleGrace
	silent         time.Duration       // the IdleGrace of connections that never sent anything
	firstIdle      time.Duration       // how long net/http waits for a next request; 0: for ever. Set before the first Accept
	move           func(net.Conn) bool // Options.Move
	keepWebSockets bool                // Options.KeepWebSockets
	logger         *slog.Logger
}

// at returns how far the drain is.
func (c *course) at() stage { return stage(c.stage.Load()) }

// idleGrace is how long a connection between two requests has.
func (c *course) idleGrace() time.Duration {
	if c.hurried.Load() {
		return min(c.idle, hurriedGrace)
	}
	return c.idle
}
