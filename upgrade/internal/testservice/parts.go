//go:build linux

package testservice

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Parts are for the programs, and only the test package can have the parts: hooks of the package under test, and the server
// of package drain, which no package below upgrade may import.
type Parts struct {
	SetStepHook func(hook func(step string))
	SetClock    func(by time.Duration)
	NewServer   func(*http.Server, ServerOptions) Server
	Draining    func(ctx context.Context) <-chan struct{} // closed when the server that gave ctx drains
}

// ServerOptions are the options of drain.Options with the same names.
type ServerOptions struct {
	Grace, IdleGrace time.Duration       // limits of the drain
	Move             func(net.Conn) bool // upgrade's Move
	Rebalance, Hurry <-chan struct{}     // upgrade's Rebalance and Hurry
	KeepWebSockets   bool                // handlers end their WebSockets
}

// Server has methods of *drain.Server.
type Server interface {
	Serve(ctx context.Context, ln net.Listener) error
	ServeTCP(ctx context.Context, ln net.Listener, handler func(context.Context, net.Conn)) error
	Context(ctx context.Context) context.Context
}

// grace is how long a program may drain: longer than any test holds a request.
const grace = 2 * time.Minute
