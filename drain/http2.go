package drain

import (
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/drain/internal/frame"
)

const (
	// ackTime is how long the answer to the PING after the first GOAWAY is waited for.
	ackTime = 5 * time.Second
	// settleTime is how long there has to be no stream after it. A client may have chosen a stream before it read the
	// GOAWAY, and write it after its answer, as that of Go does.
	settleTime = 300 * time.Millisecond
	// prefaceTime is how long net/http waits for the preface of a client.
	prefaceTime = 10 * time.Second

	// plainHTTP2 is the key of TLSNextProto under which net/http serves a connection whose preface was read. It is not
	// documented: without it the end is announced in one step, by net/http.
	plainHTTP2 = "unencrypted_http2"
)

// errPrimed ends a Serve that is there to set up HTTP/2 only.
var errPrimed = errors.New("drain: set up")

// primer is a listener that has nothing to accept.
type primer struct{}

func (primer) Accept() (net.Conn, error) { return nil, errPrimed }
func (primer) Close() error              { return nil }
func (primer) Addr() net.Addr            { return &net.TCPAddr{} }

// frame puts an h2conn around each HTTP/2 connection, if HTTP/2 is the one of net/http. That fills TLSNextProto in its
// first Serve, so there is one with no listener before; it is of the user's kind, since the kinds differ in what they
// set up. The user's own functions stay.
func (s *Server) frame(loop func(net.Listener) error) {
	if _, own := s.http.TLSNextProto["h2"]; own {
		s.steps = "one step"
		return
	}
	s.priming = true
	loop(primer{})
	s.priming = false
	next := maps.Clone(s.http.TLSNextProto)
	serve, secure := next[plainHTTP2], next["h2"]
	if serve == nil || secure == nil {
		if secure != nil {
			s.steps = "one step"
		}
		return
	}
	next[plainHTTP2] = func(hs *http.Server, t *tls.Conn, h http.Handler) {
		inner, ok := t.NetConn().(interface{ UnencryptedNetConn() net.Conn })
		if !ok || s.entry(inner.UnencryptedNetConn()) == nil {
			serve(hs, t, h)
			return
		}
		nc := inner.UnencryptedNetConn()
		s.serveHTTP2(s.entry(nc), nc, func(c *h2conn) { serve(hs, disguise(c), h) })
	}
	next["h2"] = func(hs *http.Server, t *tls.Conn, h http.Handler) {
		entry := s.entry(t)
		if entry == nil {
			secure(hs, t, h)
			return
		}
		s.serveHTTP2(entry, t, func(c *h2conn) {
			if c.greet() {
				serve(hs, disguise(&secureHTTP2{c, t}), h)
			}
		})
	}
	s.http.TLSNextProto = next
	s.steps = "two steps"
}

func (s *Server) serveHTTP2(entry *conn, nc net.Conn, serve func(*h2conn)) {
	c := &h2conn{Conn: nc, entry: entry, acked: make(chan struct{}), idle: make(chan struct{}, 1), ended: make(chan struct{}), left: make(chan struct{})}
	entry.mu.Lock()
	entry.h2, entry.http2 = c, true
	entry.stay()
	entry.mu.Unlock()
	if s.at() >= draining { // the drain has looked already: a connection that comes late is told as the others were
		c.leave()
	}
	serve(c)
	close(c.ended)
	if !c.leaving.CompareAndSwap(false, true) {
		<-c.left
	}
}

// disguised is how net/http passes a connection without TLS where the type wants one with it.
type disguised struct {
	net.Conn // nil: nothing may be done with it but this
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

// The steps in which an HTTP/2 connection ends.
const (
	open      int32 = iota
	announced       // our GOAWAY is to be written, between two frames
	told            // it was
	acked           // the client knows, or does not answer: net/http is to be told
	hinted          // it was
	finished        // its own GOAWAY is out, and there is no stream
)

// An h2conn stands between net/http and an HTTP/2 connection, above TLS. It ends the connection in two steps, RFC 9113
// section 6.8: first a GOAWAY that refuses no stream, and when the client has read that the one of net/http, which
// refuses those that are not there yet.
type h2conn struct {
	net.Conn
	entry *conn

	step    atomic.Int32
	used    atomic.Bool // a stream was opened
	leaving atomic.Bool
	acked   chan struct{} // closed when the client has answered
	idle    chan struct{} // has room for one; says that there is no stream any more
	ended   chan struct{} // closed when net/http has left the connection
	left    chan struct{} // closed when leave has ended

	writing sync.Mutex // also guards out and gone
	out     frame.HTTP2
	gone    bool // net/http has sent GOAWAY

	in    frame.HTTP2 // of the goroutine that reads
	give  string      // what it reads before anything else
	known bool        // the client has answered

	mu    sync.Mutex
	quiet time.Time // since when there was no stream as net/http was told; zero if there was one
	asked time.Time // the read deadline that net/http wants
	poked bool      // past is the read deadline
}

// leave ends the connection, once.
func (c *h2conn) leave() {
	if c.leaving.CompareAndSwap(false, true) {
		go c.end() // serveHTTP2 waits for it
	}
}

func (c *h2conn) end() {
	defer close(c.left)
	c.step.Store(announced)
	c.writing.Lock()
	c.announce()
	c.writing.Unlock()
	now := time.Now()
	limit := now.Add(ackTime)
	if c.entry.srv.latest.Before(limit) {
		limit = c.entry.srv.latest
	}
	known := c.wait(c.acked, min(silentTime, time.Until(limit)))
	if !known && c.used.Load() {
		known = c.wait(c.acked, time.Until(limit))
	}
	if known {
		c.settle(limit)
	}
	c.step.Store(acked)
	c.poke()
}

// wait waits for something of the client, and reports whether it came. It comes when the connection ends, too.
func (c *h2conn) wait(what <-chan struct{}, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-what:
	case <-c.ended:
	case <-t.C:
		return false
	}
	return true
}

// settle returns when there was no stream for a while. A stream that lasts does not need more: its client opens no other.
func (c *h2conn) settle(limit time.Time) {
	from := time.Now()
	for rest := c.settled(from, limit); rest > 0; rest = c.settled(from, limit) {
		t := time.NewTimer(rest)
		select {
		case <-c.idle:
		case <-t.C:
		case <-c.ended:
			limit = from
		}
		t.Stop()
	}
}

// rested notes that there is no stream any more.
func (c *h2conn) rested() {
	select {
	case c.idle <- struct{}{}:
	default:
	}
}

// settled says how long it is at least until there was no stream for settleTime, or the limit.
func (c *h2conn) settled(from, limit time.Time) time.Duration {
	since := c.entry.quietSince()
	if since.IsZero() {
		return time.Until(limit)
	}
	if since.Before(from) {
		since = from
	}
	return min(time.Until(limit), time.Until(since.Add(settleTime)))
}

// announce writes our GOAWAY if it can be written here. After one of net/http it cannot: the last stream must not grow.
func (c *h2conn) announce() {
	if c.gone || !c.out.Between() || !c.step.CompareAndSwap(announced, told) {
		return
	}
	io.WriteString(c.Conn, frame.Goodbye) // net/http meets the error, if there is one, too
}

// Write writes, and puts our GOAWAY in where there is room for it.
func (c *h2conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	written, seen := 0, 0
	for seen < len(p) {
		n, end := c.out.Next(p[seen:])
		seen += n
		if end && c.out.Kind() == frame.GoAway {
			c.gone = true
		}
		if end && c.step.Load() == announced && c.out.Between() {
			n, err := c.Conn.Write(p[written:seen])
			written += n
			if err != nil {
				return written, err
			}
			c.announce()
		}
	}
	n, err := c.Conn.Write(p[written:])
	if err == nil && c.gone {
		c.finish()
	}
	return written + n, err
}

// finish ends the connection after the GOAWAY of net/http if there was no stream before it and the client knew: nothing
// of a stream can wait to be written, and none will come.
func (c *h2conn) finish() {
	if c.step.Load() != hinted {
		return
	}
	c.mu.Lock()
	quiet := c.quiet
	c.mu.Unlock()
	if !quiet.IsZero() && c.entry.quietSince().Equal(quiet) && c.step.CompareAndSwap(hinted, finished) {
		c.poke()
	}
}

// Read reads; what comes is looked at, and at a boundary net/http is told of the end.
func (c *h2conn) Read(p []byte) (int, error) {
	for {
		if n, err := c.tell(p); n > 0 || err != nil {
			return n, err
		}
		n, err := c.Conn.Read(p)
		if n > 0 {
			c.note(p[:n])
			return n, err
		}
		if !c.unpoke(err) {
			return n, err
		}
	}
}

func (c *h2conn) tell(p []byte) (int, error) {
	switch {
	case c.step.Load() == finished:
		return 0, io.EOF
	case c.step.Load() == acked && c.in.Between():
		quiet := c.entry.quietSince()
		c.mu.Lock()
		c.quiet = quiet
		c.mu.Unlock()
		c.give = frame.Hint
		c.step.Store(hinted)
	}
	n := copy(p, c.give)
	c.give = c.give[n:]
	return n, nil
}

func (c *h2conn) note(p []byte) {
	for len(p) > 0 {
		n, end := c.in.Next(p)
		p = p[n:]
		switch {
		case !end:
		case c.in.Kind() == frame.Headers:
			c.used.Store(true)
		case !c.known && c.in.Pong():
			c.known = true
			close(c.acked)
		}
	}
}

// greet reads the preface, as net/http would have. In a drain it is not waited for longer than for a first request.
func (c *h2conn) greet() bool {
	c.SetReadDeadline(time.Now().Add(prefaceTime))
	got := make([]byte, len(frame.ClientPreface))
	for have := 0; have < len(got); {
		n, err := c.Conn.Read(got[have:])
		have += n
		if err != nil && !c.unpoke(err) || n == 0 && c.step.Load() >= acked {
			return false
		}
	}
	c.SetReadDeadline(time.Time{})
	return string(got) == frame.ClientPreface
}

// poke interrupts the Read that waits, or the next one.
func (c *h2conn) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.poked = true
	c.Conn.SetReadDeadline(past)
}

// unpoke reports whether a Read ended because of poke, and puts the deadline back.
func (c *h2conn) unpoke(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.poked || !timeout(err) {
		return false
	}
	c.poked = false
	c.Conn.SetReadDeadline(c.asked)
	return true
}

// SetReadDeadline sets the deadline, or writes it down while a Read is to be interrupted.
func (c *h2conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = t
	if c.poked {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *h2conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
