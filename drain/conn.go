package drain

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// lingerTime and lingerBytes bound what is read after the last answer, until the client closes.
	lingerTime  = time.Second
	lingerBytes = 4 << 20
)

// past interrupts a Read.
var past = time.Unix(1, 0)

// A conn stands between an accepted connection and net/http, below TLS.
//
// Whether an idle connection may be closed is decided in its Read, by the goroutine that would take the next request
// from it, because only there is it certain that none has been taken. The drain asks (leave), the Read that is
// interrupted by that decides (part), and until then the deadlines that net/http asks for are only written down.
type conn struct {
	net.Conn
	srv   *Server
	blind bool        // not between: net/http has Conn itself
	done  atomic.Bool // Read has decided that the connection ends: it gives io.EOF from then on
	gone  atomic.Bool // moved: Conn belongs to somebody else

	mu        sync.Mutex
	state     http.ConnState
	since     time.Time // of state; of the last byte too while a TLS connection is new
	method    string
	path      string
	tls       bool
	http2     bool
	seen      bool      // something was read, ever
	touched   bool      // something was read since the connection was new or idle
	waits     int       // read deadlines that were set since it was idle
	asked     time.Time // the read deadline that net/http wants
	leaving   bool      // past is the read deadline
	offered   bool      // Move was asked: a scan need not ask it before the connection is due
	closed    bool
	cutOff    bool // closed by the end of Grace
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
		n, err := c.Conn.Read(p)
		switch c.judge(p, n, err) {
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

func (c *conn) judge(p []byte, n int, err error) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 {
		c.touch(p[:n])
		return pass
	}
	if !c.leaving || !timeout(err) {
		return pass
	}
	if c.part(len(p)) {
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
	if !c.seen && !c.tls {
		c.http2 = len(p) >= 3 && string(p[:3]) == "PRI" // no method of HTTP/1 begins so
	}
	if c.tls && c.state == http.StateNew {
		c.since = time.Now()
	}
	c.seen, c.touched = true, true
	c.stay()
}

// stay puts the deadline back that net/http asked for.
func (c *conn) stay() {
	if c.leaving {
		c.leaving = false
		c.Conn.SetReadDeadline(c.asked)
	}
}

// leave interrupts the Read that waits, or the next one.
func (c *conn) leave() {
	if !c.leaving {
		c.leaving = true
		c.Conn.SetReadDeadline(past)
	}
}

// part decides whether the connection ends in this Read, into a buffer of the given size. It unlocks c.mu while
// Move is asked; meanwhile the connection can only be cut.
func (c *conn) part(size int) bool {
	if !c.waiting(size) {
		c.touched = true
		return false
	}
	if queued(c.Conn) {
		return false
	}
	if c.srv.opts.Move != nil && !c.tls && !c.http2 && c.offer() {
		return true
	}
	return !c.due().After(time.Now()) && !queued(c.Conn)
}

func (c *conn) offer() bool {
	c.offered = true
	c.Conn.SetDeadline(time.Time{})
	c.mu.Unlock()
	moved := c.srv.opts.Move(c.Conn)
	c.mu.Lock()
	c.gone.Store(moved)
	c.leaving = c.leaving && !moved // its deadlines are not ours any more
	return moved
}

// waiting reports whether a Read into a buffer of the given size waits for a request of which nothing was read. That no
// byte came since the connection became idle (else it would not be asked any more) is not enough: the beginning of a
// pipelined request may have come with the one before. Inside a header net/http has set the deadline a second time. While
// it waits for the first four bytes its buffer is shorter by those it has; the whole one is a power of two, the rest of
// it is not. Below TLS the sizes say nothing: there one to three bytes of a header, or the part of a record, count as
// silence. So does all that a new TLS connection has sent, since the end of its handshake cannot be seen from here.
func (c *conn) waiting(size int) bool {
	switch {
	case c.state == http.StateNew, c.state == http.StateIdle && c.http2:
		return true
	case c.state == http.StateIdle:
		return c.waits <= 1 && (c.tls || size&(size-1) == 0)
	}
	return false
}

// due is when the connection may be closed if it stays silent.
func (c *conn) due() time.Time {
	if c.state == http.StateIdle && c.srv.hurried.Load() {
		return c.since
	}
	return c.since.Add(c.srv.opts.IdleGrace)
}

// consider asks the connection to leave if it is time, and says when it will be if not.
func (c *conn) consider(now time.Time) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	silent := c.state == http.StateNew && (!c.touched || c.tls) ||
		c.state == http.StateIdle && (!c.touched || c.http2 || c.blind)
	if !silent || c.closed || c.leaving && !c.blind {
		return time.Time{}, false
	}
	due := c.due()
	late := !due.After(now)
	if c.blind {
		return due, c.expel(late)
	}
	if late || c.srv.opts.Move != nil && !c.offered {
		c.leave()
	}
	return due, !late
}

// expel makes the Read of a connection fail that has no wrapper. net/http may put another deadline over it, so
// it is repeated in the next scan.
func (c *conn) expel(late bool) bool {
	if late {
		c.Conn.SetReadDeadline(past)
	}
	return true
}

// enter notes a state that net/http reports.
func (c *conn) enter(state http.ConnState) {
	c.mu.Lock()
	old := c.state
	c.state = state
	if state != old {
		c.since = time.Now()
		c.srv.ledger.move(old, state)
	}
	c.stay()
	if state == http.StateIdle {
		c.touched, c.waits = false, 0
		if c.srv.eager.Load() && !c.blind {
			c.leave()
		}
	}
	out := state == http.StateClosed && !c.lingering || state == http.StateHijacked && c.blind
	c.mu.Unlock()
	if state == http.StateHijacked && old != state {
		c.srv.ledger.disown()
	}
	if out {
		c.srv.ledger.remove(c, state)
	}
}

// note keeps what a leftover is reported with. The two strings share the memory of the request line.
func (c *conn) note(r *http.Request) {
	c.mu.Lock()
	c.method, c.path = r.Method, r.URL.Path
	c.mu.Unlock()
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

// leftover describes the connection, unless it has its last answer.
func (c *conn) leftover() (Leftover, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == http.StateClosed || c.lingering {
		return Leftover{}, false
	}
	l := Leftover{State: c.state.String(), Since: c.since}
	if a := c.Conn.RemoteAddr(); a != nil {
		l.Remote = a.String()
	}
	if c.method != "" {
		l.Request = c.method + " " + c.path
	}
	return l, true
}

// SetReadDeadline sets the deadline, or writes it down while the connection is asked to leave.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if leaving, err := c.ask(t); leaving || err != nil {
		return err
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	leaving, err := c.ask(t)
	if err != nil {
		return err
	}
	if leaving {
		return c.Conn.SetWriteDeadline(t)
	}
	return c.Conn.SetDeadline(t)
}

// ask writes down a read deadline, and reports whether it must wait.
func (c *conn) ask(t time.Time) (leaving bool, err error) {
	if c.closed || c.gone.Load() {
		return false, net.ErrClosed
	}
	c.asked = t
	c.waits++
	return c.leaving, nil
}
