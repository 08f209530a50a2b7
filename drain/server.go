package drain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Server serves an [http.Server] until a context ends, and drains it then. See the package text for what that
// means. Make one with [NewServer].
type Server struct {
	http   *http.Server
	opts   Options
	ledger ledger

	stage   atomic.Int32 // of type stage
	unready atomic.Bool
	priming bool // written and read by the Serve that sets up net/http
	hurried atomic.Bool
	silent  time.Duration // the IdleGrace of connections that never sent anything
	lame    atomic.Bool
	notice  Notice
	latest  time.Time // when idle connections have to go, so that Grace does not cut them; written before the stage rises

	install  sync.Once
	once     sync.Once // runs the drain; those who come later wait in it
	err      error     // what the drain ended with; written inside once
	began    chan struct{}
	over     chan struct{}  // closed when the drain has ended
	partings sync.WaitGroup // goroutines that say goodbye; started by the one that runs the drain

	mu        sync.Mutex
	since     time.Time // when the drain began
	entered   time.Time // when the stage did
	lameSince time.Time // when an operator made it a lame duck; zero if none did
	report    Report
	steps     string // in how many HTTP/2 ends
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
		over:      make(chan struct{}),
		notice:    Notice{begun: make(chan struct{})},
		report:    Report{Phases: map[Phase]time.Duration{}},
		listeners: map[*listener]struct{}{},
	}
	s.silent = silentTime
	if opts.IdleGrace > 0 {
		s.silent = opts.IdleGrace
	}
	s.ledger.init()
	return s
}

// at returns how far the drain is.
func (s *Server) at() stage { return stage(s.stage.Load()) }

// patience is the IdleGrace of a connection.
func (s *Server) patience(mute bool) time.Duration {
	if mute {
		return s.silent
	}
	return s.opts.IdleGrace
}

// Serve accepts connections on ln and serves them until ctx ends, then drains. It returns nil after a clean drain, a
// [*TimeoutError] if Grace cut something, [ErrClosed] if a drain had begun before, or the error of an accept that
// failed, which begins a drain too. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, "", s.http.Serve)
}

// ServeTLS is [Server.Serve] with TLS. The files may be empty if the TLSConfig of the http.Server has certificates.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, certFile, keyFile string) error {
	return s.serve(ctx, ln, "", func(l net.Listener) error { return s.http.ServeTLS(l, certFile, keyFile) })
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

func (s *Server) serve(ctx context.Context, ln net.Listener, proto string, loop func(net.Listener) error) error {
	if ln == nil {
		return errors.New("drain: no listener")
	}
	l, err := s.enter(ln, proto, loop)
	if err != nil {
		ln.Close()
		return err
	}
	ended := make(chan error, 1)
	go func() {
		failed := l.blame(ctx, loop(l))
		l.Close()
		s.leave(l)
		ended <- failed
	}()
	// Not now, when the process has its first requests to answer, nor in the drain.
	look := time.NewTimer(time.Second)
	defer look.Stop()
	offers := s.opts.Offers
	for serves := true; serves; {
		select {
		case _, open := <-offers:
			if !open {
				offers = nil
				continue
			}
			s.propose()
			continue
		case <-look.C:
			if s.opts.Move != nil {
				readsAsKnown()
			}
			continue
		case <-ctx.Done():
		case <-s.began:
		case failed := <-ended:
			if !l.used.Load() { // nothing was served, so nothing is drained
				return failed
			}
			ended <- failed
		}
		serves = false
	}
	drained := tellCause(ctx)
	err = s.drain(handover(ctx))
	drained()
	if failed := <-ended; failed != nil {
		return errors.Join(failed, err)
	}
	return err
}

// enter counts a listener in, unless a drain has begun.
func (s *Server) enter(ln net.Listener, proto string, loop func(net.Listener) error) (*listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at() != serving {
		return nil, ErrClosed
	}
	if proto == "" {
		s.install.Do(func() { s.hook(loop) })
	}
	l := &listener{Listener: ln, accept: acceptOf(ln), srv: s, proto: proto}
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

// tellCause tells whoever has ended ctx that a server drains, until the function that is returned is called. It takes that for
// no server that ignores its context, however long Grace is.
func tellCause(ctx context.Context) (ended func()) {
	var d interface{ Draining() (ended func()) }
	if errors.As(context.Cause(ctx), &d) {
		return d.Draining()
	}
	return func() {}
}
