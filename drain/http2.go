package drain

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
)

// plainHTTP2 is a key of TLSNextProto. For this key, TLSNextProto has the function by which net/http serves an HTTP/2
// connection after the preface was read. The key is not documented. If net/http does not have the key, HTTP/2 connections end
// in one step, by net/http.
const plainHTTP2 = "unencrypted_http2"

// errPrimed ends a Serve that only makes net/http set up HTTP/2.
var errPrimed = errors.New("drain: set up")

// primer is a listener that has nothing to accept.
type primer struct{}

func (primer) Accept() (net.Conn, error) { return nil, errPrimed }
func (primer) Close() error              { return nil }
func (primer) Addr() net.Addr            { return &net.TCPAddr{} }

// The values of Status.HTTP2.
const (
	oneStep  = "one step"
	twoSteps = "two steps"
)

// installHTTP2 makes net/http serve each HTTP/2 connection through an h2conn, and returns the value of Status.HTTP2. It does so
// by functions in TLSNextProto. The user's own functions in TLSNextProto remain. Nothing changes in three cases: net/http does
// not serve HTTP/2, the user has set a function for "h2", or net/http has no function for plainHTTP2.
//
// net/http fills TLSNextProto in the first Serve. The parameter loop calls Serve or ServeTLS of the http.Server. So
// installHTTP2 first calls loop with a listener that has nothing to accept.
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

// serveHTTP2 makes an h2conn for a connection of HTTP/2, and serves the connection through the h2conn.
func serveHTTP2(entry *conn, nc net.Conn, serve func(*h2conn)) {
	c := newH2Conn(nc, entry, entry.course)
	entry.mu.Lock()
	entry.h2, entry.kind.http2 = c, true
	entry.noteSteady() // the preface of HTTP/2 may come after requests of HTTP/1
	if entry.state.Open() {
		entry.reader.deadline.restore(entry.Conn)
	}
	entry.mu.Unlock()
	if entry.course.at() >= draining { // perhaps Server.announce ran before entry.h2 was set
		c.leave()
	}
	serve(c)
	c.closeDown()
}

// disguised carries a connection into a function of TLSNextProto. Such a function takes only a *tls.Conn. So disguise makes a
// *tls.Conn that never encrypts, with the disguised as its inner connection. The function takes the field conn out of the
// disguised. net/http does the same for connections without TLS.
type disguised struct {
	net.Conn // nil: only UnencryptedNetConn may be called
	conn     net.Conn
}

// UnencryptedNetConn returns the connection. net/http looks for this method.
func (d disguised) UnencryptedNetConn() net.Conn { return d.conn }

func disguise(nc net.Conn) *tls.Conn { return tls.Client(disguised{conn: nc}, nil) }

// secureHTTP2 is an h2conn of a connection with TLS. net/http asks it for the state of TLS.
type secureHTTP2 struct {
	*h2conn
	tls *tls.Conn
}

// ConnectionState returns the state of TLS. net/http uses it as Request.TLS.
func (c *secureHTTP2) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }
