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

	once    sync.Once      // runs the drain; callers that come while it runs wait for its end
	err     error          // the error of the drain; written by the function that once runs
	over    chan struct{}  // closed when the drain has ended
	closers sync.WaitGroup // the goroutines that close WebSockets and event streams

	mu    sync.Mutex
	steps string    // in how many steps HTTP/2 connections end: see installHTTP2; guarded by mu
	hook  sync.Once // installs the hooks in the http.Server
}

// The locks of this package, of its internal packages and of grpcdrain, in the order in which a goroutine takes them: a
// goroutine that holds a lock may take the locks of lower lines, and no lock of the same line or of a higher line. A sync.Once
// counts as a lock that is held while its function runs. The mutex of an http.Server comes before the locks of the second part,
// since net/http closes connections under it. So no method of an http.Server is called while one of those locks is held.
//
// A lock of the first part may be held while a client, a disk or a function of the program is slow. So an Accept takes none
// of these locks. The loop of a drain (Server.wait) runs under Server.once, and takes no other of these locks, except that it
// closes the listeners when Grace has run out. A plain stop takes readiness.mu once, before the loop. A Read takes only the lock
// of nethttpcheck, and only if the connection came from another process. No other lock is held then.
//
//	Server.once            the drain runs; Ready, Announce and Flush of the Options are called
//	Server.hook            net/http is set up, and may read the files of a certificate
//	readiness.mu           Ready of the Options is called, in the order of the changes
//	nethttpcheck.check.mu  net/http is checked: it serves connections in memory
//	eventStream.mu         bytes are written to the client; held by Write, Flush and the end of the stream
//	wsConn.writing         the same for a WebSocket
//	h2writer.Mutex         the same for an HTTP/2 connection
//	listener.closed        the program's listener is closed
//
// A lock of the second part is held only during calls that do not wait, and not while a handler or another function of the
// program is called. There are two exceptions. listener.mu, h2conn.mu and conn.mu are held while a deadline is set, by a method
// of the program's listener or of a connection that this listener has returned. conn.mu is also held while SyscallConn is
// called, to ask the kernel for the size of a queue. RemoteAddr is not called under conn.mu, since it may wait for the client.
//
//	h2conn.mu              the read deadline of an HTTP/2 connection, which may be set on a conn below
//	conn.mu                the state of a connection; not held while Move runs
//	listener.mu            the end of an accept loop
//	Server.mu, registry.mu, listeners.mu, journal.mu, job.mu
//	                       each the other fields of its struct
//	wsConn.once            the channel gone is closed
//	grpcdrain.conns.mu     the connections of grpc
//	nethttpcheck.testConn.mu, nethttpcheck.testConn.once, nethttpcheck.single.mu, nethttpcheck.single.once
//	                       the connection and the listener of a check

// NewServer makes a Server of srv. The Server uses srv itself, not a copy, and srv must not be served in another way. The
// fields of srv may be set until the first Serve. If srv is nil, the Server uses an empty http.Server, which serves
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

// Serve accepts connections on ln and serves the connections until ctx ends, then drains. Serve returns nil after a clean
// drain, and a [*TimeoutError] if something was unfinished when Grace had run out. If an accept fails, Serve drains too, and
// returns the error of the accept. If a drain began before the call, Serve returns [ErrClosed] at once. Serve closes ln.
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
	// Listen gets a context that does not end with ctx: if ctx has already ended, Listen still works, and Serve drains at once
	// and returns nil.
	ln, err := new(net.ListenConfig).Listen(context.WithoutCancel(ctx), "tcp", addr)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return s.Serve(ctx, ln)
}

// ServeTCP serves raw connections as [Server.Serve] serves HTTP, in the same drain as everything else of the server. Each
// handler has a goroutine of its own. When the handler returns, nc is closed in a way that lets the client read everything.
//
// The handler learns of the drain by FromContext(ctx) and may end the connection as the protocol wants. If the handler does not
// do so, the drain makes Read of nc return io.EOF when the connection has been silent for [Options.IdleGrace]. Silent means
// that no byte was read or written; on Linux, it also means that the client has acknowledged no byte. After io.EOF a Write
// still works. At the end of Grace ctx is cancelled with [ErrExpired].
func (s *Server) ServeTCP(ctx context.Context, ln net.Listener, handler func(ctx context.Context, nc net.Conn)) error {
	return s.serve(ctx, ln, handlers, "tcp", rawLoop(handler))
}

// ServeFunc serves another protocol as [Server.Serve] serves HTTP. loop is the accept loop of another server, and must
// return when its listener is closed. A drain waits until the connections of the listener are closed. The other server
// learns of the drain by the Notice in a context of [Server.Context].
func (s *Server) ServeFunc(ctx context.Context, ln net.Listener, protocol string, loop func(net.Listener) error) error {
	if protocol == "" {
		return errors.New("drain: ServeFunc needs the name of a protocol")
	}
	return s.serve(ctx, ln, foreign, protocol, loop)
}

// Context returns a copy of ctx in which [FromContext] finds the Notice of this server. Use it for protocols that package
// drain does not know.
func (s *Server) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, connKey{}, s)
}

func (s *Server) notice() *Notice { return &s.course.told }

// Go runs job in a goroutine of its own. The drain waits for the job as for a request. The job gets a context that is derived
// from ctx. By FromContext of this context the job learns of the drain. When Grace has run out, the context is cancelled with
// [ErrExpired]. If everything has ended in a drain or Grace has run out, the job does not run, and Go returns [ErrClosed].
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

// Track makes the drain wait until done is called. Use Track, for example, for each call of a protocol that the server does not
// know, and call done when the call has ended. More calls of done do nothing. If the State of e is empty, it becomes "active".
// If Since is zero, it becomes the present time. If cancel is not nil, cancel is called with [ErrExpired] when Grace has run
// out. Track returns [ErrClosed] if everything has ended in a drain, or if Grace has run out.
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

// serve runs the accept loop on ln until ctx ends, and then the drain. owner and name are arguments for track.
func (s *Server) serve(ctx context.Context, ln net.Listener, owner server, name string, loop func(net.Listener) error) error {
	if ln == nil {
		return errors.New("drain: no listener")
	}
	l := &listener{Listener: ln, accept: acceptOf(ln), track: func(nc net.Conn) net.Conn {
		return track(s.course, s.registry, nc, owner, name)
	}}
	if !s.listeners.add(l, s.course) {
		ln.Close()
		return ErrClosed
	}
	if owner == netHTTP {
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

// install installs the hooks in the http.Server before the first Accept. Only the first call has an effect.
func (s *Server) install(loop func(net.Listener) error) {
	s.hook.Do(func() {
		s.course.firstIdle = idleTimeout(s.http)
		h := hooks{http: s.http, course: s.course, registry: s.registry, readiness: &s.readiness}
		steps := h.install(loop) // may read the files of a certificate, so mu is not locked
		s.mu.Lock()
		defer s.mu.Unlock()
		s.steps = steps
	})
}

// await waits until ctx has ended, the drain has begun in another call of serve, or the accept loop of l has ended. Then unused
// is false, and the caller calls drain. There is one exception, in which nothing is drained: the loop has ended and has never
// called Accept. In this case unused is true, and failed is the error of Serve.
func (s *Server) await(ctx context.Context, l *listener, ended chan error) (failed error, unused bool) {
	// Check net/http a second after the start. Earlier, the process is busy with its first requests. Later, in the drain, the
	// check would delay the drain.
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

// propose makes every connection that can move ask Move once. An idle connection asks at once, another connection when it
// becomes idle. A connection that another process has passed here may not be in the registry yet: track makes it ask.
func (s *Server) propose() {
	if !readsAsKnown() { // the first call takes some time, so it is made here, where no lock is held
		return
	}
	s.course.offered.Store(true) // before the list is read: see track
	for _, c := range s.registry.list() {
		c.propose()
	}
}

// handover reports whether ctx has ended for a handover, in which another process goes on serving.
func handover(ctx context.Context) bool {
	var h interface{ Handover() bool }
	return errors.As(context.Cause(ctx), &h) && h.Handover()
}

// tellCause calls the method Draining of the cause of ctx, and returns the function ended that Draining returns. If the cause
// has no such method, ended does nothing. The server calls ended when the drain is over. By the two calls, package upgrade
// knows that the server does not ignore its context, even if Grace is long.
func tellCause(ctx context.Context) (ended func()) {
	var d interface{ Draining() (ended func()) }
	if errors.As(context.Cause(ctx), &d) {
		return d.Draining()
	}
	return func() {}
}
