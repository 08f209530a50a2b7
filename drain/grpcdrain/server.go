package grpcdrain

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/midair-go/midair/drain"
)

// Server serves a grpc.Server until a context ends, and drains it then. Make one with NewServer.
type Server struct {
	grpc     *grpc.Server
	opts     drain.Options
	draining chan struct{}
	conns    conns

	mu     sync.Mutex
	served bool
}

// NewServer makes a Server of gs, which must not be served or stopped in another way. Of opts, Grace (default 30 s),
// Propagation and Logger count; HTTP/2 connections are neither idle nor movable in the sense of the others.
func NewServer(gs *grpc.Server, opts drain.Options) *Server {
	if opts.Grace <= 0 {
		opts.Grace = 30 * time.Second
	}
	return &Server{grpc: gs, opts: opts, draining: make(chan struct{}), conns: conns{open: map[*conn]time.Time{}}}
}

// Draining returns a channel that is closed when the drain begins: handlers of streams should end them.
func (s *Server) Draining() <-chan struct{} { return s.draining }

// Serve accepts on ln until ctx ends, closes ln, and waits for the calls that have begun. It returns nil after a clean
// drain, a *drain.TimeoutError if Grace ran out, drain.ErrClosed if it was called before, or why ln failed. If the cause
// of ctx says Handover, Propagation is skipped.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.mu.Lock()
	again := s.served
	s.served = true
	s.mu.Unlock()
	if again {
		return drain.ErrClosed
	}
	failed := make(chan error, 1)
	go func() { failed <- s.grpc.Serve(&listener{Listener: ln, conns: &s.conns}) }()
	select {
	case err := <-failed:
		s.grpc.Stop()
		return err
	case <-ctx.Done():
	}
	s.propagate(ctx)
	err := s.drain()
	<-failed // GracefulStop has ended it: its error says no more than that
	return err
}

func (s *Server) propagate(ctx context.Context) {
	var h interface{ Handover() bool }
	if s.opts.Propagation <= 0 || errors.As(context.Cause(ctx), &h) && h.Handover() {
		return
	}
	<-time.After(min(s.opts.Propagation, s.opts.Grace))
}

// drain announces the end before the handlers hear of it: a client whose stream ends must not come back on the same
// connection.
func (s *Server) drain() error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.grpc.GracefulStop()
	}()
	close(s.draining)
	limit := time.NewTimer(s.opts.Grace)
	defer limit.Stop()
	select {
	case <-ended:
		return nil
	case <-limit.C:
	}
	left := s.conns.left()
	s.grpc.Stop()
	<-ended
	return &drain.TimeoutError{Grace: s.opts.Grace, Left: left}
}

// conns are the connections that are open.
type conns struct {
	mu   sync.Mutex
	open map[*conn]time.Time
}

func (c *conns) add(nc net.Conn) net.Conn {
	w := &conn{Conn: nc, conns: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[w] = time.Now()
	return w
}

func (c *conns) remove(w *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, w)
}

func (c *conns) left() []drain.Leftover {
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []drain.Leftover
	for w, since := range c.open {
		left = append(left, drain.Leftover{Remote: w.RemoteAddr().String(), State: "active", Since: since})
	}
	return left
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
	return l.conns.add(c), nil
}

type conn struct {
	net.Conn
	conns *conns
}

func (c *conn) Close() error {
	c.conns.remove(c)
	return c.Conn.Close()
}

// NetConn returns the connection as the listener gave it.
func (c *conn) NetConn() net.Conn { return c.Conn }
