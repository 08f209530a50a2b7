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
	// Grace limits the whole drain, Propagation included. What goes on then is cut, and Serve returns a
	// [*TimeoutError]. Idle and silent connections are closed in good order before: at the latest one second before
	// the end of Grace, or when a quarter of it is left if that is less. Zero or less means 30 seconds.
	Grace time.Duration

	// IdleGrace is how long a connection has to be idle, or silent since it was accepted, before a drain closes it.
	// Those that are younger when the drain begins stay open for the rest of that time, and a request that they send is
	// answered with "Connection: close". Zero or less means 5 seconds, and 0.8 seconds for a connection that has sent
	// nothing at all since it was accepted.
	IdleGrace time.Duration

	// Propagation is how long a plain stop is a lame duck: it goes on to accept after readiness became false. Half of
	// Grace at most, so that there is time left to drain. A handover skips it. Default 0.
	Propagation time.Duration

	// Move is offered each idle or silent plaintext HTTP/1 connection of a drain, as the listener gave it, if it
	// implements [syscall.Conn]. If it returns true the connection belongs to Move, its Close included: the server
	// forgets it and sends nothing more, not even an end; the user's ConnState is told StateClosed. If it returns false
	// the connection is drained as without Move. It should not block, must accept concurrent calls, and is asked again
	// when the connection becomes idle again and before it is closed. A panic closes the connection and is logged by
	// net/http. A net/http that is found to read in another way than the known ones moves nothing. Default nil: nothing
	// moves.
	Move func(net.Conn) bool

	// Rebalance makes the server offer every idle plaintext HTTP/1 connection to Move once while it serves, whenever
	// something is received from it, and those that are active when they are idle. What comes from Move on the other side
	// and was idle here is given IdleTimeout for its next request. Default nil: Move is asked in a drain only.
	Rebalance <-chan struct{}

	// Hurry makes a drain close connections that have been idle for half a second, when it is closed or something is
	// received from it; silent new ones keep their IdleGrace. That has a price: a connection whose last answer went out
	// before the drain did not learn of the end, and a request that is on its way to it is lost. Default nil: never.
	Hurry <-chan struct{}

	// KeepWebSockets leaves the end of WebSockets to their handlers, which learn of the drain by [FromContext]. Otherwise
	// each is closed with status 1012, service restart, a hundred a second or as many as half of Grace needs. Default
	// false.
	KeepWebSockets bool

	// Flush is called when everything has ended or was cut, for what must not be lost then, such as telemetry. Its
	// context ends with Grace, but not before a tenth of Grace. Its error is joined to that of Serve. Default nil:
	// nothing.
	Flush func(context.Context) error

	// Ready is called with false when a plain stop begins, before Propagation, and by Drain; with true by Resume: for
	// those who are asked in another way than by [Server.Readiness], such as the health service of gRPC. Default nil:
	// nothing.
	Ready func(ready bool)

	// Announce is called when the server has stopped to accept, before handlers learn of the drain: for another server,
	// run by [Server.ServeFunc], that tells its clients first. Its context ends with Grace. Default nil: nothing.
	Announce func(context.Context)

	// After is a server that drains first: this one goes on to serve until that one has drained, as an admin listener
	// should. Both get a context that ends. Grace is one budget then: this server has what the other has left of it, at
	// least a tenth of its own, so a chain of two is over after 1.1 times Grace. Default nil: nothing is waited for.
	After *Server

	// Logger gets a line for each that is left when Grace ran out, 20 at most, every five seconds what a drain waits
	// for, and its end. Its handler is called in another goroutine: no drain waits for a log, but for the last lines
	// 0.2 s at most. Default nil: [slog.Default].
	Logger *slog.Logger
}

// withDefaults returns a copy in which Grace, IdleGrace and Logger have their defaults.
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
