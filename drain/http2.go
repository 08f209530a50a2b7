package drain

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
)

// plainHTTP2 is the key of TLSNextProto under which net/http serves a connection whose preface was read. The key is not
// documented: without it the end is announced in one step, by net/http.
const plainHTTP2 = "unencrypted_http2"

// errPrimed ends a Serve that is there to set up HTTP/2 only.
var errPrimed = errors.New("drain: set up")

// primer is a listener that has nothing to accept.
type primer struct{}

func (primer) Accept() (net.Conn, error) { return nil, errPrimed }
func (primer) Close() error              { return nil }
func (primer) Addr() net.Addr            { return &net.TCPAddr{} }

// In how many steps HTTP/2 connections end.
const (
	oneStep  = "one step"
	twoSteps = "two steps"
)

// installHTTP2 puts an h2conn around each HTTP/2 connection, if HTTP/2 is that of net/http, and returns in how many steps
// HTTP/2 ends. net/http fills TLSNextProto in the first Serve, so there is a Serve of an empty listener before, with or
// without TLS as the user's. The user's own functions stay.
func (h *hooks) installHTTP2(loop func(net.Listener) error) (steps string) {
	if _, own := h.http.TLSNextProto["h2"]; own {
		return oneStep
	}
	loop(primer{})
	next := maps.Clone(h.http.TLSNextProto)
	serve, secure := next[plainHTTP2], next["h2"]
	switch {
	case secure == nil:
		return ""
	case serve == nil:
		return oneStep
	}
	next[plainHTTP2] = func(hs *http.Server, t *tls.Conn, handler http.Handler) {
		inner, ok := t.NetConn().(interface{ UnencryptedNetConn() net.Conn })
		if !ok || h.find(inner.UnencryptedNetConn()) == nil {
			serve(hs, t, handler)
			return
		}
		nc := inner.UnencryptedNetConn()
		serveHTTP2(h.find(nc), nc, func(c *h2conn) { serve(hs, disguise(c), handler) })
	}
	next["h2"] = func(hs *http.Server, t *tls.Conn, handler http.Handler) {
		entry := h.find(t)
		if entry == nil {
			secure(hs, t, handler)
			return
		}
		serveHTTP2(entry, t, func(c *h2conn) {
			if c.greet() {
				serve(hs, disguise(&secureHTTP2{c, t}), handler)
			}
		})
	}
	h.http.TLSNextProto = next
	return twoSteps
}

// serveHTTP2 serves a connection by way of an h2conn.
func serveHTTP2(entry *conn, nc net.Conn, serve func(*h2conn)) {
	c := newH2Conn(nc, entry, entry.course)
	entry.mu.Lock()
	entry.h2, entry.kind.http2 = c, true
	if entry.state.Open() {
		entry.reader.deadline.restore(entry.Conn)
	}
	entry.mu.Unlock()
	if entry.course.at() >= draining { // the drain has looked already: a connection that comes late is told as the others were
		c.leave()
	}
	serve(c)
	c.closeDown()
}

// disguised is how net/http passes a connection without TLS where the type wants a connection with TLS.
type disguised struct {
	net.Conn // nil: nothing may be done with it but UnencryptedNetConn
	conn     net.Conn
}

// UnencryptedNetConn is what net/http looks for.
func (d disguised) UnencryptedNetConn() net.Conn { return d.conn }

func disguise(nc net.Conn) *tls.Conn { return tls.Client(disguised{conn: nc}, nil) }

// secureHTTP2 tells net/http what Request.TLS is.
type secureHTTP2 struct {
	*h2conn
	tls *tls.Conn
}

// ConnectionState is the state of TLS.
func (c *secureHTTP2) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }
