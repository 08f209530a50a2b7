package drain

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/midair-go/midair/drain/internal/frame"
	"github.com/midair-go/midair/drain/internal/sockbuf"
)

const (
	// lingerTime and lingerBytes bound what is read after the last answer, until the client closes.
	lingerTime  = time.Second
	lingerBytes = 4 << 20
)

// silentTime is how long one that never sent anything is given, if Options.IdleGrace does not say it.
const silentTime = 800 * time.Millisecond

// hurriedGrace takes the place of IdleGrace after Hurry. A client that asks again and again has a request on its way
// most of the time, and it would be lost.
const hurriedGrace = 500 * time.Millisecond

// past interrupts a Read.
var past = time.Unix(1, 0)

// A conn stands between an accepted connection and net/http, below TLS.
//
// Whether an idle connection may be closed is decided in its Read, by the goroutine that would take the next request
// from it, because only there is it certain that none has been taken. The drain asks (leave), the Read that is
// interrupted by that decides (part), and until then the deadlines that net/http asks for are only written down.
type conn struct {
	net.Conn
	srv    *Server
	blind  bool        // not between: net/http has Conn itself
	raw    bool        // of ServeTCP
	socket bool        // a Read of Conn surely survives an interruption
	guest  guest       // Conn, if it came from another process
	done   atomic.Bool // Read has decided that the connection ends: it gives io.EOF from then on
	gone   atomic.Bool // moved: Conn belongs to somebody else

	read, written atomic.Int64

	mu        sync.Mutex
	state     http.ConnState
	since     time.Time // of state
	heard     time.Time // what IdleGrace counts from: since, or a later sign that something may be on its way
	method    string    // of the last request
	path      string
	proto     string // of another server than net/http, or what a handler took the connection over for
	only      request
	running   *request                // the requests that are answered, the youngest first
	cancel    context.CancelCauseFunc // of the contexts of all requests
	ws        *wsConn
	action    string
	handling  bool // the handler of a raw connection has not returned
	ended     bool // it is not in the ledger any more
	tls       bool
	http2     bool
	preface   frame.Preface
	h2        *h2conn   // what ends the connection instead of this
	touched   bool      // something was read since the connection was new or idle, or Move is being asked
	ahead     bool      // one to three bytes of a next request were found, and heard says when
	waits     int       // read deadlines that were set since it was idle
	asked     time.Time // the read deadline that net/http wants
	leaving   bool      // past is the read deadline
	offered   bool      // Move was asked: it need not be before the connection is due
	proposed  bool      // Move is to be asked while the server serves
	visa      visa      // of a guest that came idle
	marks     uint8     // bits: what the program did to the socket
	untaken   int       // how many bytes of a raw connection were unsent when the drain looked last
	closed    bool
	lingering bool
}

var (
	_ io.ReaderFrom = (*conn)(nil)
	_ io.WriterTo   = (*conn)(nil)
	_ syscall.Conn  = (*conn)(nil)
)

// Read reads, and decides whether an idle connection ends here.
func (c *conn) Read(p []byte) (int, error) {
	for !c.done.Load() {
		if c.guest != nil {
			c.park(len(p))
		}
		n, err := c.Conn.Read(p)
		c.read.Add(int64(n))
		switch c.judge(p[:n], n, len(p), err) {
		case again:
			continue
		case over:
			return 0, io.EOF
		}
		return n, err
	}
	return 0, io.EOF
}

// A verdict is what becomes of a Read.
type verdict int

const (
	pass  verdict = iota // its result goes to net/http
	again                // it was interrupted in vain
	over                 // the connection ends
)

// judge decides after a read of n bytes into a buffer of the given size. Got is nil where the bytes are not at hand.
func (c *conn) judge(got []byte, n, size int, err error) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.judged(got, n, size, err)
}

func (c *conn) judged(got []byte, n, size int, err error) verdict {
	if n > 0 {
		c.touch(got)
		return pass
	}
	if !c.leaving || !timeout(err) {
		return pass
	}
	if c.part(size) {
		c.done.Store(true)
		return over
	}
	c.stay()
	return again
}

func timeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func (c *conn) touch(p []byte) {
	if c.state == http.StateNew {
		if !c.tls {
			c.http2 = c.preface.Next(p)
		}
		if c.tls {
			c.heard = time.Now()
		}
	}
	if c.raw {
		c.heard = time.Now()
	}
	c.touched, c.ahead = true, false
	if c.visa.waiting {
		c.asked = c.visa.arrived()
		c.leaving = true // stay sets it
	}
	c.stay()
}

// stay puts the deadline back that net/http asked for. That of a connection which lingers is its own by then.
func (c *conn) stay() {
	if c.leaving && !c.closed {
		c.Conn.SetReadDeadline(c.asked)
	}
	c.leaving = false
}

// leave interrupts the Read that waits, or the next one.
func (c *conn) leave() {
	if !c.leaving {
		c.leaving = true
		c.Conn.SetReadDeadline(past)
	}
}

// part decides whether the connection ends in this Read, into a buffer of the given size. A few bytes that do not go on
// for another IdleGrace are no request: some clients send a line end too many after a body.
func (c *conn) part(size int) bool {
	switch {
	case !c.silent() || sockbuf.Queued(c.Conn):
		return false
	case c.srv.at() < draining:
		return !c.declined(size)
	case c.begun(size):
		if !c.ahead {
			c.ahead, c.offered, c.heard = true, true, time.Now()
		}
	case c.movable() && c.offer():
		return true
	}
	return !c.due().After(time.Now()) && !sockbuf.Queued(c.Conn)
}

// movable reports whether Move can take the connection: HTTP/1 without TLS on a socket, and net/http is the known one.
func (c *conn) movable() bool {
	return c.srv.opts.Move != nil && c.socket && !c.tls && !c.http2 && c.proto == "" && readsAsKnown()
}

// offer asks Move. It unlocks c.mu meanwhile, in which the connection can only be cut; so it is if Move panics.
func (c *conn) offer() (moved bool) {
	c.offered, c.touched = true, true
	c.Conn.SetDeadline(time.Time{})
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.touched = false
		c.gone.Store(moved)
		c.leaving = c.leaving && !moved // its deadlines are not ours any more
	}()
	return c.srv.opts.Move(c.Conn)
}

// silent reports whether net/http waits for a request of which nothing was read, or fewer than four bytes. For those it
// waits under the deadline that it set when the connection became idle; inside a header it has set another. A new TLS
// connection counts as silent whatever it has sent, since the end of its handshake cannot be seen from here.
func (c *conn) silent() bool {
	if c.h2 != nil {
		return false
	}
	switch c.state {
	case http.StateNew:
		return !c.touched || c.tls
	case http.StateIdle:
		return c.waits <= 1 || c.http2
	case http.StateHijacked:
		return c.raw && c.marks&copying == 0
	}
	return false
}

// begun reports whether a few bytes of a next request are there while a Read into a buffer of the given size waits for
// the rest. They may have come with the request before: the buffer of net/http is shorter by those it has, and the whole
// one is a power of two, the rest of it is not. Below TLS the sizes say nothing, so there only what was read since counts.
func (c *conn) begun(size int) bool {
	return c.state == http.StateIdle && !c.http2 && (c.touched || !c.tls && size&(size-1) != 0)
}

// due is when the connection may be closed if it stays silent.
func (c *conn) due() time.Time {
	due := c.heard.Add(c.srv.patience(c.state == http.StateNew && !c.touched))
	if c.state == http.StateIdle && !c.ahead {
		due = c.heard.Add(c.srv.idleGrace())
	}
	if c.srv.latest.Before(due) {
		return c.srv.latest
	}
	return due
}

// consider asks the connection to leave if it is time, and says when it will be if not. The Read of one that has no
// wrapper is made to fail; net/http may put another deadline over that, so it is repeated in the next scan.
func (c *conn) consider(now time.Time) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.silent() || c.closed || c.leaving {
		return time.Time{}, false
	}
	flows := c.flow(now)
	due := c.due()
	late := !due.After(now)
	if !c.blind {
		c.press(late)
		if again := now.Add(c.srv.opts.IdleGrace / flowLooks); flows && again.Before(due) {
			due = again
		}
		return due, !late
	}
	if late {
		c.Conn.SetReadDeadline(past)
	}
	return due, true
}

// press asks the connection to leave if it is late, or if Move may want it.
func (c *conn) press(late bool) {
	if late || c.movable() && !c.offered {
		c.leave()
	}
}

// enter notes a state that net/http reports.
func (c *conn) enter(state http.ConnState) {
	c.mu.Lock()
	old := c.state
	c.state = state
	if state != old {
		c.since = time.Now()
		c.heard = c.since
	}
	c.stay()
	if state == http.StateIdle {
		c.touched, c.ahead, c.offered, c.waits = false, false, false, 0
		c.visa.shift = 0
		if c.proposed {
			c.leave()
		}
		if c.srv.at() >= draining && !c.blind {
			c.press(!c.due().After(c.since))
		}
	}
	if state == http.StateIdle && c.h2 != nil {
		c.h2.rested()
	}
	c.closed = c.closed || state == http.StateHijacked && c.blind && c.proto == "" // its end would not be seen
	c.mu.Unlock()
	if state == http.StateHijacked && old != state {
		c.srv.ledger.disown()
	}
	if state == http.StateClosed || state == http.StateHijacked {
		c.strike()
	}
}

// quietSince says since when the connection is idle; zero if it is not.
func (c *conn) quietSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != http.StateIdle {
		return time.Time{}
	}
	return c.since
}

func (c *conn) current() http.ConnState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// framed reports whether the end of the connection of a request is announced by an h2conn.
func (c *conn) framed(r *http.Request) bool {
	if r.ProtoMajor < 2 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.h2 != nil
}

func (c *conn) markTLS() {
	c.mu.Lock()
	c.tls = true
	c.mu.Unlock()
}

// learn asks TLS which protocol was agreed on, once.
func (c *conn) learn(t *tls.Conn) {
	c.mu.Lock()
	known := c.method != "" || c.http2
	c.mu.Unlock()
	if known {
		return
	}
	h2 := t.ConnectionState().NegotiatedProtocol == "h2"
	c.mu.Lock()
	c.http2 = h2
	c.mu.Unlock()
}

// SetReadDeadline sets the deadline, or writes it down while the connection is asked to leave.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.gone.Load() {
		return net.ErrClosed
	}
	if c.visa.waiting || c.visa.shift > 0 {
		t = c.visa.deadline(t)
	}
	c.asked = t
	c.waits++
	if c.leaving {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
