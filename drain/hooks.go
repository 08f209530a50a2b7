package drain

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
)

// hooks chains the hooks of an http.Server.
type hooks struct {
	http      *http.Server
	course    *course
	registry  *registry
	readiness *readiness
}

// install chains the hooks, once, before the first accept, and returns in how many steps HTTP/2 ends.
func (h *hooks) install(loop func(net.Listener) error) (steps string) {
	h.http.Handler = h.handler(h.http.Handler)
	h.http.ConnContext = h.connContext(h.http.ConnContext)
	h.http.ConnState = h.connState(h.http.ConnState)
	base := h.http.BaseContext
	h.http.BaseContext = nil // the user's is not for the listener that sets up HTTP/2
	steps = h.installHTTP2(loop)
	if base != nil {
		h.http.BaseContext = func(ln net.Listener) context.Context {
			if l, ok := ln.(*listener); ok {
				ln = l.Listener
			}
			return base(ln)
		}
	}
	return steps
}

func (h *hooks) handler(next http.Handler) http.Handler {
	if next == nil {
		next = http.DefaultServeMux
	}
	return &handler{course: h.course, readiness: h.readiness, next: next}
}

// connContext is the type of http.Server.ConnContext.
type connContext = func(context.Context, net.Conn) context.Context

func (h *hooks) connContext(next connContext) connContext {
	return func(ctx context.Context, nc net.Conn) context.Context {
		c := h.find(nc)
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

func (h *hooks) connState(next func(net.Conn, http.ConnState)) func(net.Conn, http.ConnState) {
	return func(nc net.Conn, state http.ConnState) {
		c := h.find(nc)
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

// find returns the conn of a connection of net/http; nil if there is none.
func (h *hooks) find(nc net.Conn) *conn {
	switch nc := nc.(type) {
	case inRegistry:
		return nc.self()
	case *h2conn:
		c, _ := nc.entry.(*conn)
		return c
	case *secureHTTP2:
		return h.find(nc.h2conn)
	case *tls.Conn:
		if c := h.find(nc.NetConn()); c != nil {
			return c
		}
		return h.registry.lookupTLS(nc)
	}
	return nil
}

// given returns the connection for the user's hooks: the connection of the listener, or the *tls.Conn above. So the hooks
// find the same type as without a Server.
func given(nc net.Conn, c *conn) net.Conn {
	if s, ok := nc.(*secureHTTP2); ok {
		return s.tls
	}
	if _, ok := nc.(*tls.Conn); ok || c == nil {
		return nc
	}
	if c.adopted != nil {
		return c.adopted.NetConn()
	}
	return c.Conn
}

// A handler notes each request, and announces the end of its connection while there is a drain. Before, the handler
// passes on the ResponseWriter of net/http itself: a wrapper would cost an allocation for each request.
type handler struct {
	course    *course
	readiness *readiness
	next      http.Handler
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

// answer serves a request. If it is framed, an h2conn announces the end of its connection.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, framed bool) {
	if framed || h.course.at() == serving && h.readiness.now() != lameDuck {
		h.next.ServeHTTP(w, r)
		return
	}
	h.last(w, r)
}

// last serves a request of the drain. On HTTP/2 net/http turns the header into a GOAWAY with the number of the highest
// stream so far, which cuts streams on their way. No other announcement is possible without touching the frames. Every
// stream makes the announcement, so the loss of a header is no harm.
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

// upgrade serves a request for a WebSocket. In a drain the request is refused: the WebSocket would be closed at once.
func (h *handler) upgrade(w http.ResponseWriter, r *http.Request, c *conn) {
	full, ok := w.(answerer)
	switch {
	case h.course.at() >= draining && !h.course.keepWebSockets:
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close")
		http.Error(w, "the server is being replaced, try again", http.StatusServiceUnavailable)
	case ok:
		h.answer(&upgrader{answerer: full, entry: c}, r, false)
	default:
		h.answer(w, r, c.framed(r))
	}
}

// stream serves a request for events. A request of the drain is not begun: an event stream that says when to come back
// and ends is what its client understands; on another status than 200 the client would give up.
func (h *handler) stream(w http.ResponseWriter, r *http.Request, c *conn, q *request) {
	if h.course.at() >= draining {
		w.Header().Set("Content-Type", eventStreamType)
		w.Header().Set("Cache-Control", "no-store")
		if !c.framed(r) {
			w.Header().Set("Connection", "close")
		}
		io.WriteString(w, retry())
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	e := &eventStream{ResponseWriter: w, cancel: cancel}
	c.mu.Lock()
	q.events = e
	c.mu.Unlock()
	defer e.leave()
	if h.course.at() >= draining { // announce may have looked before e was there
		e.closeGracefully(ctx)
	}
	h.answer(e, r.WithContext(ctx), c.framed(r))
}
