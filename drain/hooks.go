package drain

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
)

// hooks replaces the user's hooks of an http.Server by hooks of the Server, which call the user's hooks.
type hooks struct {
	http      *http.Server
	course    *course
	registry  *registry
	readiness *readiness
}

// install replaces the hooks, and returns the value of Status.HTTP2. It is called once, before the first Accept.
func (h *hooks) install(loop func(net.Listener) error) (steps string) {
	h.http.Handler = h.handler(h.http.Handler)
	h.http.ConnContext = h.connContext(h.http.ConnContext)
	h.http.ConnState = h.connState(h.http.ConnState)
	base := h.http.BaseContext
	h.http.BaseContext = nil // the user's BaseContext must not be called for the listener primer of installHTTP2
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
		if c == nil || ctx == nil { // net/http panics for a nil context, and its message names ConnContext
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
		if next != nil { // called before c.enter, so that Serve cannot return before the user's last ConnState has returned
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
	case *tcpConn: // the usual case, and quicker than a look for the methods of an interface
		return &nc.conn
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

// given returns the connection that the user's hooks get: the connection of the listener, or the *tls.Conn of net/http. So
// the hooks get the same type as without a Server.
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

// A handler notes each request. In a drain, or while the server is a lame duck, the handler announces the end of the
// connection in the answer. At other times an ordinary request gets the ResponseWriter of net/http itself: a wrapper would
// cost an allocation for each request.
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

// answer serves a request. If framed is true, an h2conn announces the end of the connection, so the answer does not.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, framed bool) {
	if framed || h.course.at() == serving && h.readiness.now() != lameDuck {
		h.next.ServeHTTP(w, r)
		return
	}
	h.last(w, r)
}

// last serves a request so that the answer announces the end of the connection. For HTTP/2 without an h2conn, net/http turns
// the header "Connection: close" into a GOAWAY with the number of the highest stream so far. Streams that are on their way are
// lost, but without an h2conn there is no other way to announce the end. A handler on HTTP/2 may overwrite the header, but the
// answers of other streams announce the end too.
func (h *handler) last(w http.ResponseWriter, r *http.Request) {
	full, ok := w.(answerer)
	if !ok {
		w.Header().Set("Connection", "close")
		h.next.ServeHTTP(w, r)
		return
	}
	a := &lastAnswer{answerer: full}
	h.next.ServeHTTP(a, r)
	a.announce() // if the handler has written nothing, net/http writes the header now
}

// upgrade serves a request for a WebSocket. In a drain without Options.KeepWebSockets it refuses the request, since the
// WebSocket would be closed at once.
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

// stream serves a request for an event stream. In a drain the handler does not run: the answer only says after what time to
// reconnect, and ends. The status is 200, since after any other status an EventSource would not reconnect.
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
	c.answer(q, e)
	defer func() {
		e.leave()
		c.answer(q, nil)
	}()
	if h.course.at() >= draining { // perhaps Server.announce ran before e was stored in q
		e.closeGracefully(ctx)
	}
	h.answer(e, r.WithContext(ctx), c.framed(r))
}
