package grpcdrain

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/midair-go/midair/drain"
)

const (
	// tellTime limits how long announce waits until the first GOAWAY was written on all connections. After this wait, handlers
	// learn of the drain.
	tellTime = time.Second
	// secureTime replaces tellTime if a connection has TLS: on such a connection the first GOAWAY cannot be seen.
	secureTime = 100 * time.Millisecond
)

// Server serves a grpc.Server until a context ends, and then drains the grpc.Server. A Server is made by NewServer.
type Server struct {
	grpc    *grpc.Server
	core    *drain.Server
	conns   conns
	looped  chan struct{} // closed when the accept loop of grpc has ended
	stopped chan struct{} // closed when GracefulStop has returned
	served  atomic.Bool   // Serve was called
	health  Health        // may be nil
}

// Health is implemented by the *health.Server of gRPC: the service answers NOT_SERVING from Shutdown to Resume.
type Health interface {
	Shutdown()
	Resume()
}

// NewServer makes a Server of gs, which must not be served or stopped in another way. In opts, IdleGrace, Move, Rebalance,
// Hurry and KeepWebSockets have no effect: they are for connections that net/http serves.
func NewServer(gs *grpc.Server, opts drain.Options) *Server {
	s := &Server{grpc: gs, looped: make(chan struct{}), stopped: make(chan struct{})}
	s.conns.open, s.conns.wake = map[*conn]struct{}{}, make(chan struct{}, 1)
	ready, announce := opts.Ready, opts.Announce
	opts.Ready = func(ok bool) {
		s.tell(ok)
		if ready != nil {
			ready(ok)
		}
	}
	opts.Announce = func(ctx context.Context) {
		s.announce(ctx)
		if announce != nil {
			announce(ctx)
		}
	}
	s.core = drain.NewServer(nil, opts)
	return s
}

// SetHealth makes h answer NOT_SERVING from the first moment of a plain stop. After Core().Drain(), h also answers NOT_SERVING,
// until Core().Resume(). A handover does not change the answer of h. Call SetHealth before Serve.
func (s *Server) SetHealth(h Health) { s.health = h }

// Core returns the drain.Server of s. Use it for methods such as Status, Report, Go and Drain, and as the Options.After of
// another server.
func (s *Server) Core() *drain.Server { return s.core }

// Draining returns a channel that is closed in the drain, when handlers of streams should end their streams. With an Observer,
// handlers get the same channel by drain.FromContext.
func (s *Server) Draining() <-chan struct{} {
	return drain.FromContext(s.core.Context(context.Background())).Begun()
}

// Serve accepts on ln until ctx ends, closes ln, and waits for the calls that have begun. Serve returns nil after a clean
// drain, and a *drain.TimeoutError if calls or connections were left when Grace had run out. If accepting fails, Serve drains
// too, and returns the error of ln. A second call of Serve returns drain.ErrClosed. A handover, as package drain describes it,
// skips Propagation.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if s.served.Swap(true) {
		return drain.ErrClosed
	}
	err := s.core.ServeFunc(ctx, ln, "grpc", func(l net.Listener) error {
		defer close(s.looped)
		return s.grpc.Serve(&listener{Listener: l, conns: &s.conns})
	})
	s.grpc.Stop() // also makes the GracefulStop of announce return
	select {
	case <-s.stopped:
	default:
		if s.conns.stopping.Load() {
			<-s.stopped
		}
	}
	return err
}

// tell passes readiness to the Health, if there is one.
func (s *Server) tell(ready bool) {
	switch {
	case s.health == nil:
	case ready:
		s.health.Resume()
	default:
		s.health.Shutdown()
	}
}

// announce makes grpc announce the end to its clients in two steps. It returns when the first step was sent on all connections,
// but no later than conns.limit allows. Only then do handlers learn of the drain. If a handler ended its stream earlier, the
// client would open the next stream on the same connection.
func (s *Server) announce(ctx context.Context) {
	select {
	case <-s.looped: // GracefulStop closes the listener: wait until the accept loop has taken all connections in the queue
	case <-ctx.Done():
	}
	s.conns.stopping.Store(true)
	go func() { // Serve waits for this goroutine
		defer close(s.stopped)
		s.grpc.GracefulStop()
	}()
	s.conns.awaitTold(ctx, s.stopped)
}

// conns are the open connections.
type conns struct {
	stopping atomic.Bool   // GracefulStop was called, or is about to be called
	wake     chan struct{} // makes awaitTold look again; has room for one signal

	mu   sync.Mutex
	open map[*conn]struct{}
}

// awaitTold waits until the first GOAWAY was written on all connections, but not longer than limit allows, and not after the
// end of ctx or the closing of stopped.
func (c *conns) awaitTold(ctx context.Context, stopped <-chan struct{}) {
	began := time.Now()
	limit := time.NewTimer(c.limit())
	defer limit.Stop()
	for !c.allTold() {
		select {
		case <-c.wake:
			limit.Reset(time.Until(began.Add(c.limit()))) // perhaps a connection has turned out to have TLS
		case <-stopped:
			return
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// limit returns how long awaitTold may wait for the first GOAWAY.
func (c *conns) limit() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.open {
		if w.secure.Load() {
			return secureTime
		}
	}
	return tellTime
}

// allTold reports whether the first GOAWAY was written on all connections. A connection on which nothing was written does not
// count: it has no calls yet, and grpc writes the GOAWAY before the first call.
func (c *conns) allTold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.open {
		if w.begun.Load() && !w.told.Load() {
			return false
		}
	}
	return true
}

func (c *conns) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

type listener struct {
	net.Listener
	conns *conns
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := &conn{Conn: c, conns: l.conns}
	l.conns.mu.Lock()
	defer l.conns.mu.Unlock()
	l.conns.open[w] = struct{}{}
	return w.given(), nil
}

// A conn is the wrapper of a connection. It notes when grpc writes its first GOAWAY.
type conn struct {
	net.Conn
	conns  *conns
	begun  atomic.Bool // something was written
	secure atomic.Bool // the connection has TLS: the first written byte is the first byte of a TLS handshake or of a TLS alert
	told   atomic.Bool // the first GOAWAY was written
}

// goAway is the debug data of the first GOAWAY of grpc.
var goAway = []byte("graceful_stop")

// Write writes p, and notes whether p is TLS or contains the first GOAWAY.
func (c *conn) Write(p []byte) (int, error) {
	if !c.begun.Load() && len(p) > 0 {
		c.secure.Store(p[0] == 0x16 || p[0] == 0x15)
		c.begun.Store(true)
		c.conns.notify()
	}
	n, err := c.Conn.Write(p)
	if c.conns.stopping.Load() && !c.told.Load() && bytes.Contains(p, goAway) {
		c.told.Store(true)
		c.conns.notify()
	}
	return n, err
}

// Close closes the connection.
func (c *conn) Close() error {
	c.conns.mu.Lock()
	delete(c.conns.open, c)
	c.conns.mu.Unlock()
	c.conns.notify()
	return c.Conn.Close()
}

// NetConn returns the wrapper of package drain. The NetConn of that wrapper returns the connection of the listener.
func (c *conn) NetConn() net.Conn { return c.Conn }
