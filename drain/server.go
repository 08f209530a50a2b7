package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a [Server]. The zero value works.
type Options struct {
	// Grace limits the whole drain, Propagation included. What is left then is closed, and Serve returns a
	// [*TimeoutError]. Zero or less means 30 seconds.
	Grace time.Duration

	// IdleGrace is how long a connection has to be idle, or silent since it was accepted, before a drain closes it.
	// Those that are younger when the drain begins stay open for the rest of that time, and a request that they send is
	// answered with "Connection: close". Zero or less means 5 seconds.
	IdleGrace time.Duration

	// Propagation is how long a plain stop goes on to accept after readiness became false. A handover skips it.
	// Default 0.
	Propagation time.Duration

	// Move is offered each idle or silent plaintext HTTP/1 connection of a drain, as the listener gave it. If it
	// returns true the connection belongs to Move, its Close included: the server forgets it and sends nothing more, not
	// even an end. If it returns false the connection is drained as without Move. It should not
	// block, must accept concurrent calls, and is asked again when the connection becomes idle again and before it is
	// closed. Default nil: nothing moves.
	Move func(net.Conn) bool

	// Hurry makes a drain close idle connections at once, when it is closed or something is received from it; silent
	// new ones keep their IdleGrace. Default nil: never.
	Hurry <-chan struct{}

	// Logger gets a line for each connection that is left when Grace ran out, 20 at most. Default nil:
	// [slog.Default].
	Logger *slog.Logger
}

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
	return o
}

// A Server serves an [http.Server] until a context ends, and drains it then. See the package text for what that
// means. Make one with [NewServer].
type Server struct {
	http   *http.Server
	opts   Options
	ledger ledger

	closing atomic.Bool // answers carry Connection: close, and Close lingers
	unready atomic.Bool
	eager   atomic.Bool // a connection that becomes idle is asked to leave at once
	hurried atomic.Bool

	install sync.Once
	once    sync.Once // runs the drain; those who come later wait in it
	err     error     // what the drain ended with; written inside once
	began   chan struct{}

	mu        sync.Mutex
	phase     Phase
	since     time.Time
	listeners map[*listener]struct{}
}

// NewServer makes a Server of srv, which is used as it is, not copied, and must not be served in another way. Its
// fields may be set until the first Serve. A nil srv is taken as an empty one: it serves [http.DefaultServeMux].
func NewServer(srv *http.Server, opts Options) *Server {
	if srv == nil {
		srv = &http.Server{}
	}
	s := &Server{
		http:      srv,
		opts:      opts.withDefaults(),
		began:     make(chan struct{}),
		phase:     Serving,
		listeners: map[*listener]struct{}{},
	}
	s.ledger.init()
	return s
}

// Serve accepts connections on ln and serves them until ctx ends, then drains. It returns nil after a clean drain, a
// [*TimeoutError] if Grace ran out, [ErrClosed] if a drain had begun before, or the error of an accept that
// failed, which begins a drain too. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, s.http.Serve)
}

// ServeTLS is [Server.Serve] with TLS. The files may be empty if the TLSConfig of the http.Server has certificates.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, certFile, keyFile string) error {
	return s.serve(ctx, ln, func(l net.Listener) error { return s.http.ServeTLS(l, certFile, keyFile) })
}

// ListenAndServe listens on the address of the http.Server, ":http" if that is empty, and calls [Server.Serve].
func (s *Server) ListenAndServe(ctx context.Context) error {
	addr := s.http.Addr
	if addr == "" {
		addr = ":http"
	}
	// The context ends the service, not the start: a Serve that begins with an ended one drains at once and returns nil.
	ln, err := new(net.ListenConfig).Listen(context.WithoutCancel(ctx), "tcp", addr)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return s.Serve(ctx, ln)
}

func (s *Server) serve(ctx context.Context, ln net.Listener, loop func(net.Listener) error) error {
	if ln == nil {
		return errors.New("drain: no listener")
	}
	l, err := s.enter(ln)
	if err != nil {
		ln.Close()
		return err
	}
	var failed error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed = loop(l)
		l.Close()
		s.leave(l)
	}()
	select {
	case <-ctx.Done():
	case <-s.began:
	case <-ended:
	}
	if err := s.misuse(l, ended, &failed); err != nil {
		return err
	}
	err = s.drain(handover(ctx))
	<-ended
	failed = l.blame(ctx, failed)
	if failed == nil {
		return err
	}
	if err == nil {
		return failed
	}
	return errors.Join(failed, err)
}

// misuse is the error of an accept loop that ended before it accepted for the first time: a certificate that cannot be
// read, an http.Server that was shut down. Nothing was served, so nothing is drained.
func (s *Server) misuse(l *listener, ended <-chan struct{}, failed *error) error {
	select {
	case <-ended:
	default:
		return nil
	}
	if l.used.Load() {
		return nil
	}
	return fmt.Errorf("drain: %w", *failed)
}

// enter counts a listener in, unless a drain has begun.
func (s *Server) enter(ln net.Listener) (*listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != Serving {
		return nil, ErrClosed
	}
	s.install.Do(s.hook)
	l := &listener{Listener: ln, srv: s}
	s.listeners[l] = struct{}{}
	return l, nil
}

// leave counts a listener out after its accept loop ended.
func (s *Server) leave(l *listener) {
	s.mu.Lock()
	delete(s.listeners, l)
	s.mu.Unlock()
	s.ledger.notify()
}

// handover reports whether ctx ended because another process serves on.
func handover(ctx context.Context) bool {
	var h interface{ Handover() bool }
	return errors.As(context.Cause(ctx), &h) && h.Handover()
}
