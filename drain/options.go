package drain

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
)

// Options of a [Server]. The zero value works.
type Options struct {
	// Grace limits the whole drain, Propagation included. When Grace has run out, everything unfinished is cut, and Serve
	// returns a [*TimeoutError]. Idle and silent connections are closed in good order earlier: one second before the end of
	// Grace, or when a quarter of Grace is left if a quarter is less than a second. Zero or less means 30 seconds.
	Grace time.Duration

	// IdleGrace is how long a connection has to be idle, or silent since it was accepted, before a drain closes it. A
	// connection that has been idle for a shorter time when the drain begins stays open until IdleGrace is over, and its
	// next request is answered with "Connection: close". Zero or less means 5 seconds, and 0.8 seconds for a connection
	// that has sent nothing at all since it was accepted.
	IdleGrace time.Duration

	// Propagation is how long the server goes on accepting after a plain stop has made it not ready: its time as a lame
	// duck. At most half of Grace is used, so that there is time left to drain. A handover skips Propagation. Default 0.
	Propagation time.Duration

	// Move is called in a drain for each idle or silent plaintext HTTP/1 connection that implements [syscall.Conn]. Move gets
	// the connection that the listener gave. If Move returns true, the connection belongs to Move, which has to close it: the
	// server forgets the connection, sends nothing more on it, and does not close it. The user's ConnState gets StateClosed. If
	// Move returns false, the connection is drained as without Move, and Move is called again when the connection becomes idle
	// again, and once more before the connection is closed. Move should not block, and must allow concurrent calls. If Move
	// panics, the connection is closed, and net/http logs the panic. With a net/http that reads in a way that this package does
	// not know, nothing moves. Default nil: nothing moves.
	Move func(net.Conn) bool

	// Rebalance makes a server that is not draining offer connections to Move. Whenever something is received from Rebalance,
	// each plaintext HTTP/1 connection is offered once: at once if it is idle, otherwise when it becomes idle. In the process
	// that gets the connection, the next request may take as long as the IdleTimeout of the http.Server to arrive. Default nil:
	// connections are offered in a drain only.
	Rebalance <-chan struct{}

	// Hurry shortens a drain: when Hurry is closed or something is received from it, the drain closes connections that have
	// been idle for half a second. New connections that are silent keep their IdleGrace. Hurry can lose requests: a client that
	// got its last answer before the drain does not know that the connection is going to end. If its next request is on its way
	// when the connection is closed, the request is lost. Default nil: never.
	Hurry <-chan struct{}

	// KeepWebSockets leaves the end of WebSockets to their handlers, which learn of the drain by [FromContext]. If
	// KeepWebSockets is false, each WebSocket is closed with status 1012, service restart: a hundred per second, or more if
	// all of them would take longer than half of Grace. Default false.
	KeepWebSockets bool

	// Flush is called after everything has ended or was cut, to save data that would be lost at the end of the process, such
	// as telemetry. The context of Flush ends with Grace, but Flush has at least a tenth of Grace. The error of Flush is
	// joined to the error of Serve. Default nil: nothing is called.
	Flush func(context.Context) error

	// Ready is called with false when a plain stop begins, before Propagation. Drain also calls Ready with false, and Resume
	// calls Ready with true. Use Ready to report readiness in another way than by [Server.Readiness], such as by the health
	// service of gRPC. Ready must not call Drain or Resume: these methods wait until Ready has returned. Default nil: nothing
	// is called.
	Ready func(ready bool)

	// Announce is called when the server is ending its accept loops, before handlers learn of the drain. Use Announce if
	// [Server.ServeFunc] runs another server, and the clients of that server have to learn of the drain before its handlers.
	// The context of Announce ends with Grace. Default nil: nothing is called.
	Announce func(context.Context)

	// After is a server that drains first: this server goes on serving until the other server has drained, as an admin listener
	// should. End the contexts of both servers: the end of one drain does not begin the other drain. The two drains share one
	// Grace: this server gets the time that the first drain has left over, but at least a tenth of the Grace of this server. So
	// two servers with the same Grace are drained after 1.1 times Grace at the latest. Default nil: this server waits for no
	// other.
	After *Server

	// Logger gets a line for each of up to 20 entries that were left when Grace had run out. If a drain lasts longer than
	// five seconds, Logger also gets a line every five seconds about what the drain waits for, and a line at its end. The
	// handler of Logger is called in another goroutine, so that a slow log does not delay the drain. Only at its end does
	// the drain wait for the last lines: up to 0.2 seconds for each, and two seconds in all. Default nil: [slog.Default].
	Logger *slog.Logger
}

// withDefaults returns a copy in which Grace, IdleGrace and Logger have their defaults if the user has not set them. In the
// copy, Logger is wrapped, so that the server does not wait for the handler of the user's Logger.
func (o Options) withDefaults() Options {
	if o.Grace <= 0 {
		o.Grace = 30 * time.Second
	}
	if o.IdleGrace <= 0 {
		o.IdleGrace = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = logqueue.Wrap(o.Logger)
	return o
}
