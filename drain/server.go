package drain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Server serves an [http.Server] until a context ends, and then drains the http.Server: see the package text. A
// Server is made by [NewServer].
type Server struct {
	http      *http.Server
	opts      Options
	course    *course
	registry  *registry
	readiness readiness
	journal   journal
	listeners listeners

	once    sync.Once      // runs the drain; later callers wait for its end
	err     error          // what the drain ended with; written inside once
	over    chan struct{}  // closed when the drain has ended
	closers sync.WaitGroup // goroutines that close streams; started by the goroutine that runs the drain

	mu    sync.Mutex
	steps string    // in how many HTTP/2 ends
	hook  sync.Once // sets up net/http
}

// NewServer makes a Server of srv. The Server uses srv and no copy, and srv must not be served in another way. The
// fields of srv may be set until the first Serve. A nil srv stands for an empty http.Server, which serves
// [http.DefaultServeMux].
func NewServer(srv *http.Server, opts Options) *Server {
	if srv == nil {
		srv = &http.Server{}
	}
	silent := silentTime
	if opts.IdleGrace > 0 {
		silent = opts.IdleGrace
	}
	opts = opts.withDefaults()
	c := &course{
		began:          make(chan struct{}),
		told:           Notice{begun: make(chan struct{})},
		idle:           opts.IdleGrace,
		silent:         silent,
		move:           opts.Move,
		keepWebSockets: opts.KeepWebSockets,
		logger:         opts.Logger,
	}
	return &Server{
		http:      srv,
		opts:      opts,
		course:    c,
		registry:  newRegistry(),
		readiness: readiness{tell: opts.Ready},
		journal:   journal{course: c, report: Report{Phases: map[Phase]time.Duration{}}},
		listeners: listeners{all: map[*listener]struct{}{}},
		over:      make(chan struct{}),
	}
}

// Serve accepts connections on ln and serves the connections until ctx ends, then drains. Serve returns nil after a
// clean drain, a [*TimeoutError] if Grace cut something, [ErrClosed] if a drain had begun before, or the error of a
// failed accept, which begins a drain too. Serve closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, netHTTP, "", s.http.Serve)
}

// ServeTLS is [Server.Serve] with TLS. The files may be empty if the TLSConfig of the http.Server has certificates.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, certFile, keyFile string) error {
	return s.serve(ctx, ln, netHTTP, "", func(l net.Listener) error { return s.http.ServeTLS(l, certFile, keyFile) })
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

// ServeTCP serves raw connections in the way of [Server.Serve], in the same drain as everything else of the server. Each
// handler has a goroutine of its own; nc is closed when the handler returns, so that the client can read everything.
//
// The handler learns of the drain by FromContext(ctx) and may end the connection as the protocol wants. If the handler
// does not, a Read gets io.EOF when nothing was read or written for [Options.IdleGrace], and on Linux the client took
// no bytes either; a Write still works. At the end of Grace ctx is cancelled with [ErrExpired].
func (s *Server) ServeTCP(ctx context.Context, ln net.Listener, handler func(ctx context.Context, nc net.Conn)) error {
	return s.serve(ctx, ln, handlers, "tcp", rawLoop(handler))
}

// ServeFunc serves another protocol in the way of [Server.Serve]: loop is the accept loop of another server, and ends
// when the listener does. A drain waits until the connections of the listener are closed; the other server learns of
// the drain from the notice of [Server.Context].
func (s *Server) ServeFunc(ctx context.Context, ln net.Listener, protocol string, loop func(net.Listener) error) error {
	if protocol == "" {
		return errors.New("drain: ServeFunc needs the name of a protocol")
	}
	return s.serve(ctx, ln, foreign, protocol, loop)
}

// Context returns a context in which [FromContext] finds the notice of this server, for protocols that drain does not
// know.
func (s *Server) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, connKey{}, s)
}

func (s *Server) notice() *Notice { return &s.course.told }

// Go runs a job in a goroutine of its own. The drain waits for the job as for a request. The job learns of the drain by
// FromContext(ctx), and goes on as long as Grace allows: the ctx of the job is derived from ctx, and is cancelled with
// [ErrExpired] when Grace has run out. If the drain is over, the job does not run, and Go returns [ErrClosed].
func (s *Server) Go(ctx context.Context, name string, job func(ctx context.Context)) error {
	ctx, cancel := context.WithCancelCause(s.Context(ctx))
	done, err := s.Track(Entry{Protocol: "job", Name: name}, cancel)
	if err != nil {
		cancel(nil)
		return err
	}
	go func() {
		defer cancel(nil)
		defer done()
		job(ctx)
	}()
	return nil
}

// Track makes the drain wait for something of a protocol that the server does not know, until done is called. More
// calls of done do nothing. An empty State becomes "active", and an empty Since the present. If cancel is not nil,
// cancel is called with [ErrExpired] when Grace has run out. Track returns [ErrClosed] if the drain is over.
func (s *Server) Track(e Entry, cancel context.CancelCauseFunc) (done func(), err error) {
	if e.State == "" {
		e.State = "active"
	}
	if e.Since.IsZero() {
		e.Since = time.Now()
	}
	j := &job{shown: e, cancel: cancel}
	if !s.registry.addJob(j) {
		return nil, ErrClosed
	}
	return func() { s.registry.removeJob(j) }, nil
}

// serve runs an accept loop until ctx ends, and then the drain.
func (s *Server) serve(ctx context.Context, ln net.Listener, by server, name string, loop func(net.Listener) error) error {
	if ln == nil {
		return errors.New("drain: no listener")
	}
	l := &listener{Listener: ln, accept: acceptOf(ln), track: func(nc net.Conn) net.Conn {
		return track(s.course, s.registry, nc, by, name)
	}}
	if !s.listeners.add(l, s.course) {
		ln.Close()
		return ErrClosed
	}
	if by == netHTTP {
		s.install(loop)
	}
	ended := make(chan error, 1)
	go func() {
		failed := l.acceptErr(ctx, loop(l))
		l.Close()
		s.listeners.remove(l)
		s.registry.notify()
		ended <- failed
	}()
	if failed, unused := s.await(ctx, l, ended); unused { // nothing was served, so nothing is drained
		return failed
	}
	drained := tellCause(ctx)
	err := s.drain(handover(ctx))
	drained()
	if failed := <-ended; failed != nil {
		return errors.Join(failed, err)
	}
	return err
}

// install sets up net/http before the first accept.
func (s *Server) install(loop func(net.Listener) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook.Do(func() {
		s.course.firstIdle = idleTimeout(s.http)
		h := hooks{http: s.http, course: s.course, registry: s.registry, readiness: &s.readiness}
		s.steps = h.install(loop)
	})
}

// await returns when a drain is to begin: ctx has ended, the drain of another listener has begun, or the accept loop has
// ended. If the loop has never called Accept, its error is returned.
func (s *Server) await(ctx context.Context, l *listener, ended chan error) (failed error, unused bool) {
	// Not now, when the process has its first requests to answer, nor in the drain.
	check := time.NewTimer(time.Second)
	defer check.Stop()
	offers := s.opts.Rebalance
	for {
		select {
		case _, open := <-offers:
			if !open {
				offers = nil
				continue
			}
			s.propose()
		case <-check.C:
			if s.opts.Move != nil {
				readsAsKnown()
			}
		case <-ctx.Done():
			return nil, false
		case <-s.course.began:
			return nil, false
		case failed := <-ended:
			if !l.used.Load() {
				return failed, true
			}
			ended <- failed
			return nil, false
		}
	}
}

// propose makes every idle connection ask Move once, and every other connection when it is idle.
func (s *Server) propose() {
	if !readsAsKnown() { // asked here as well, before any lock is held
		return
	}
	for _, c := range s.registry.list() {
		c.propose()
	}
}

// handover reports whether ctx ended because another process serves on.
func handover(ctx context.Context) bool {
	var h interface{ Handover() bool }
	return errors.As(context.Cause(ctx), &h) && h.Handover()
}

// tellCause tells the cause of ctx that a server drains, until ended is called. Package upgrade then knows that the
// server does not ignore its context, however long Grace is.
func tellCause(ctx context.Context) (ended func()) {
	var d interface{ Draining() (ended func()) }
	if errors.As(context.Cause(ctx), &d) {
		return d.Draining()
	}
	return func() {}
}
