package drain

import (
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

const (
	// silentTime is the IdleGrace of a connection on which the client has never sent anything, if Options.IdleGrace is not
	// set.
	silentTime = 800 * time.Millisecond
	// hurriedGrace is used in place of a longer IdleGrace after Options.Hurry has given its signal. It is not zero: a client
	// that sends one request after the other has a request on its way most of the time, and an immediate close would lose this
	// request.
	hurriedGrace = 500 * time.Millisecond
)

// A course has the stage of the drain of a Server, and the data about the drain that the connections of the Server need.
type course struct {
	stage   atomic.Int32  // of type stage
	hurried atomic.Bool   // Options.Hurry was closed, or something was received from it
	offered atomic.Bool   // something was received from Options.Rebalance
	latest  time.Time     // when idle connections are closed at the latest, shortly before Grace ends; set in the stage serving
	began   chan struct{} // closed when the drain begins
	told    Notice        // the Notice that handlers and jobs get

	idle           time.Duration       // Options.IdleGrace
	silent         time.Duration       // the IdleGrace of connections on which the client has never sent anything
	firstIdle      time.Duration       // the result of idleTimeout, set before the first Accept; 0 means no limit
	move           func(net.Conn) bool // Options.Move
	keepWebSockets bool                // Options.KeepWebSockets
	logger         *slog.Logger
}

// at returns the present stage.
func (c *course) at() stage { return stage(c.stage.Load()) }

// idleGrace returns the IdleGrace of a connection between two requests. This is Options.IdleGrace. After Options.Hurry has
// given its signal, it is hurriedGrace at most.
func (c *course) idleGrace() time.Duration {
	if c.hurried.Load() {
		return min(c.idle, hurriedGrace)
	}
	return c.idle
}
