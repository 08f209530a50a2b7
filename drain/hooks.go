package drain

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// connKey is the key of the *conn in the context of a request.
type connKey struct{}

// hook chains the hooks of the http.Server. It runs once, before the first accept.
func (s *Server) hook(loop func(net.Listener) error) {
	s.http.Handler = s.wrap(s.http.Handler)
	if base := s.http.BaseContext; base != nil {
		s.http.BaseContext = func(ln net.Listener) context.Context {
			if s.priming {
				return context.Background()
			}
			if l, ok := ln.(*listener); ok {
				ln = l.Listener
			}
			return base(ln)
		}
	}
	s.http.ConnContext = s.connContext(s.http.ConnContext)
	s.http.ConnState = s.connState(s.http.ConnState)
	s.frame(loop)
}

func (s *Server) wrap(next http.Handler) http.Handler {
	if next == nil {
		next = http.DefaultServeMux
	}
	return &handler{srv: s, next: next}
}

// handler notes the request, and announces the end while there is a drain. Before, it passes on the ResponseWriter of
// net/http itself: a wrapper would cost an allocation for each request.
type handler struct {
	srv  *Server
	next http.Handler
}

var _ http.Handler = (*handler)(nil)

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok {
		h.answer(w, r, false)
		return
	}
	q := c.begin(r)
	defer c.end(q)
	switch ruleOf(r) {
	case webSocketUpgrade:
		h.upgrade(w, r, c)
	case eventSource:
		h.stream(w, r, c, q)
	default:
		h.answer(w, r, c.framed(r))
	}
}

// answer serves a request, framed if the end of its connection is announced by an h2conn.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, framed bool) {
	if framed || h.srv.at() == serving && !h.srv.lame.Load() {
		h.next.ServeHTTP(w, r)
		return
	}
	h.last(w, r)
}

// last serves a request of the drain. On HTTP/2 net/http turns the header into a GOAWAY that names the highest stream so
// far, which cuts streams that are on their way; it is the only announcement that can be made without touching the
// frames, and every stream makes it, so that one that loses its header is no harm.
func (h *handler) last(w http.ResponseWriter, r *http.Request) {
	full, ok := w.(answerer)
	if !ok {
		w.Header().Set("Connection", "close")
		h.next.ServeHTTP(w, r)
		return
	}
	a := &lastAnswer{answerer: full}
	h.next.ServeHTTP(a, r)
	a.announce() // if nothing was written net/http answers now
}

func (s *Server) connContext(next func(context.Context, net.Conn) context.Context) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, nc net.Conn) context.Context {
		c := s.entry(nc)
		if _, ok := nc.(*tls.Conn); ok && c != nil {
			c.markTLS()
		}
		if next != nil {
			ctx = next(ctx, given(nc, c))
		}
		if c == nil || ctx == nil { // net/http panics on a nil context with a text that names the culprit
			return ctx
		}
		ctx, cancel := context.WithCancelCause(context.WithValue(ctx, connKey{}, c))
		c.mu.Lock()
		c.cancel = cancel
		c.mu.Unlock()
		return ctx
	}
}

func (s *Server) connState(next func(net.Conn, http.ConnState)) func(net.Conn, http.ConnState) {
	return func(nc net.Conn, state http.ConnState) {
		c := s.entry(nc)
		if next != nil { // first, so that Serve does not return before the last call has
			next(given(nc, c), state)
		}
		if c == nil {
			return
		}
		if t, ok := nc.(*tls.Conn); ok && state == http.StateActive {
			c.learn(t)
		}
		c.enter(state)
	}
}

// entry finds the ledger's view of a connection of net/http.
func (s *Server) entry(nc net.Conn) *conn {
	switch nc := nc.(type) {
	case inLedger:
		return nc.self()
	case *h2conn:
		return nc.entry
	case *secureHTTP2:
		return nc.entry
	case *tls.Conn:
		if c := s.entry(nc.NetConn()); c != nil {
			return c
		}
		return s.ledger.opaque(nc)
	}
	return nil
}

// given is what the user's hooks see: the connection that the listener returned, or the *tls.Conn above it, so that
// what they assert about its type stays true.
func given(nc net.Conn, c *conn) net.Conn {
	if s, ok := nc.(*secureHTTP2); ok {
		return s.tls
	}
	if _, ok := nc.(*tls.Conn); ok || c == nil {
		return nc
	}
	if c.guest != nil {
		return c.guest.NetConn()
	}
	return c.Conn
}

// A request is one that a handler is at work on. Those of a connection are linked; on HTTP/1 it is one at most, and has its
// place in the connection.
type request struct {
	method, path string
	since        time.Time
	events       *eventStream
	prev, next   *request
}

// requests are for streams of HTTP/2.
var requests = sync.Pool{New: func() any { return new(request) }}

// begin notes a request. The two strings share the memory of the request line.
func (c *conn) begin(r *http.Request) *request {
	q := &c.only
	since := time.Time{}
	if r.ProtoMajor > 1 {
		q = requests.Get().(*request)
		since = time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.ProtoMajor <= 1 {
		since = c.since
	}
	q.method, q.path, q.since = r.Method, r.URL.Path, since
	if q.next = c.running; q.next != nil {
		q.next.prev = q
	}
	c.running = q
	c.method, c.path = q.method, q.path
	return q
}

// end strikes a request off.
func (c *conn) end(q *request) {
	c.mu.Lock()
	if q.prev != nil {
		q.prev.next = q.next
	} else {
		c.running = q.next
	}
	if q.next != nil {
		q.next.prev = q.prev
	}
	q.prev, q.next, q.events = nil, nil, nil
	c.mu.Unlock()
	if q != &c.only {
		q.method, q.path = "", ""
		requests.Put(q)
	}
}
