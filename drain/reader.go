package drain

import (
	"io"
	"net"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain/internal/frame"
	"github.com/midair-go/midair/drain/internal/life"
	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// Whether an idle connection may be closed is decided in its Read, by the goroutine that would take the next request
// from the connection, because only there is it certain that no request has been taken. The drain interrupts the Read
// (readDeadline), the Read that was interrupted decides (part), and until then the deadlines that net/http asks for are
// only written down.

// A reader answers for a conn whether it may end.
type reader struct {
	deadline readDeadline
	heard    time.Time // what IdleGrace counts from: a new state, or a later sign that something may be on its way
	first    idleDeadline
	preface  frame.Preface
	unsent   int // how many bytes of a raw connection were unsent when the drain looked last
}

// A mover is what is between a conn and Move.
type mover struct {
	wanted bool // Move is to be asked while the server serves
	asked  asked
}

// asked is how far Move was asked since the connection was idle.
type asked uint8

const (
	notAsked asked = iota
	asking         // Move has not returned
	declined       // Move need not be asked before the connection is due
)

// Read reads, and decides whether an idle connection ends here.
func (c *conn) Read(p []byte) (int, error) {
	for c.stop().Reads() {
		if c.adopted != nil {
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
	return 0, c.unread()
}

// unread is the error of a Read that does not read.
func (c *conn) unread() error {
	if c.stop().EOF() {
		return io.EOF
	}
	return net.ErrClosed
}

// receive is Read with another function than that of the connection.
func (c *conn) receive(size int, read func() (int, error)) (int, error) {
	for c.stop().Reads() {
		n, err := read()
		n = max(n, 0) // package net gives -1 for a ReadMsgUnix that failed
		c.read.Add(int64(n))
		switch c.judge(nil, n, size, err) {
		case again:
			continue
		case over:
			return 0, io.EOF
		}
		return n, err
	}
	return 0, c.unread()
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
	if !c.reader.deadline.interrupted || !timeout(err) {
		return pass
	}
	if c.part(size) {
		return over
	}
	if c.state.Open() { // of a connection that lingers the deadline is its own
		c.reader.deadline.restore(c.Conn)
	}
	return again
}

// touch notes bytes that were read.
func (c *conn) touch(p []byte) {
	if s := c.state; s == life.Fresh || s == life.Arriving {
		if c.kind.secure() {
			c.reader.heard = time.Now()
		} else {
			c.kind.http2 = c.reader.preface.Next(p)
		}
	}
	if c.kind.raw() {
		c.reader.heard = time.Now()
	}
	if c.reader.first.waiting {
		c.reader.deadline = readDeadline{asked: c.reader.first.arrived(), interrupted: true} // the step puts it into force
	}
	c.step(life.Bytes)
}

// part decides whether the connection ends in this Read, into a buffer of the given size. A few bytes that do not go on
// for another IdleGrace are no request: some clients send a line end too many after a body.
func (c *conn) part(size int) bool {
	switch {
	case !c.silent() || sockbuf.Queued(c.Conn):
		return false
	case c.course.at() < draining:
		return c.wanted(size)
	case c.begun(size):
		c.step(life.Find)
	case c.movable() && c.may(life.Take) && c.offer():
		return true
	}
	return !c.due().After(time.Now()) && !sockbuf.Queued(c.Conn) && c.step(life.Part) == life.EndRead
}

// may reports whether an event is possible now.
func (c *conn) may(e life.Event) bool { return life.Next(c.state, e).Do != life.Impossible }

// movable reports whether Move can take the connection: HTTP/1 without TLS on a socket, and net/http is the known one.
func (c *conn) movable() bool {
	return c.course.move != nil && c.kind.socket && c.kind.plainHTTP1() && readsAsKnown()
}

// offer asks Move, and reports whether Move has taken the connection. Meanwhile c.mu is unlocked, and the connection can
// only be cut. If Move panics, the connection is not taken.
func (c *conn) offer() (taken bool) {
	c.mover.asked = asking
	c.Conn.SetDeadline(time.Time{})
	c.mu.Unlock()
	moved := false
	defer func() {
		c.mu.Lock()
		c.mover.asked = declined
		if moved {
			c.reader.deadline.interrupted = false // the deadlines are those of the new owner
			taken = c.step(life.Take) == life.EndRead
		}
	}()
	moved = c.course.move(c.Conn)
	return false
}

// wanted asks Move once for each offer, while the server serves, and reports whether Move has taken the connection.
func (c *conn) wanted(size int) bool {
	for c.mover.wanted && c.movable() && c.may(life.Take) && !c.begun(size) && !sockbuf.Queued(c.Conn) {
		c.mover.wanted = false // another offer may come while Move is asked
		taken := c.offer()
		c.mover.asked = notAsked // for a drain
		if taken {
			return true
		}
	}
	return false
}

// silent reports whether net/http waits for a request of which nothing was read, or fewer than four bytes. Up to three
// bytes net/http waits under the deadline of an idle connection, and then sets another deadline for the header. A new
// TLS connection counts as silent whatever was read, since the end of the handshake cannot be seen below TLS.
func (c *conn) silent() bool {
	if c.h2 != nil || !c.may(life.Part) {
		return false
	}
	switch c.state {
	case life.Arriving:
		return c.kind.secure()
	case life.Reading:
		return c.kind.http2
	case life.Raw:
		return !c.copying
	}
	return true
}

// begun reports whether a few bytes of a next request are there while a Read into a buffer of the given size waits for
// the rest. The bytes may have come with the request before: these bytes make the buffer of net/http shorter, and the
// size of the whole buffer is a power of two, the size of the rest is not. Below TLS the sizes say nothing.
func (c *conn) begun(size int) bool {
	if c.kind.http2 {
		return false
	}
	switch c.state {
	case life.Begun, life.Noted:
		return true
	case life.Rested, life.Idle:
		return !c.kind.secure() && size&(size-1) != 0
	}
	return false
}

// due is when the connection may be closed if it stays silent.
func (c *conn) due() time.Time {
	grace := c.course.idle
	switch c.state {
	case life.Fresh:
		grace = c.course.silent
	case life.Rested, life.Idle, life.Begun, life.Reading:
		grace = c.course.idleGrace()
	}
	due := c.reader.heard.Add(grace)
	if c.course.latest.Before(due) {
		return c.course.latest
	}
	return due
}

// consider interrupts the Read of the connection if the connection is due, and returns the time when the connection
// will be due if not. Without a wrapper the Read is made to fail; net/http may then set another deadline, so the next
// scan does the same again.
func (c *conn) consider(now time.Time) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.silent() || c.reader.deadline.interrupted {
		return time.Time{}, false
	}
	flows := c.flow(now)
	due := c.due()
	late := !due.After(now)
	if c.kind.wrapped() {
		c.press(late)
		if again := now.Add(c.course.idle / flowLooks); flows && again.Before(due) {
			due = again
		}
		return due, !late
	}
	if late {
		c.Conn.SetReadDeadline(past)
	}
	return due, true
}

// press interrupts the Read if the connection is late, or if Move may want the connection.
func (c *conn) press(late bool) {
	if late || c.movable() && c.mover.asked == notAsked {
		c.reader.deadline.interrupt(c.Conn)
	}
}

// rest begins an idle time. A connection that is idle in the drain only now may be due at once.
func (c *conn) rest() {
	c.mover.asked = notAsked
	c.reader.first.shift = 0
	if c.mover.wanted && c.movable() {
		c.reader.deadline.interrupt(c.Conn)
	}
	if c.course.at() >= draining && c.kind.wrapped() {
		c.press(!c.due().After(c.view.since))
	}
}

// propose makes a connection ask Move once: now if the connection is idle, otherwise when it becomes idle.
func (c *conn) propose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.kind.wrapped() || !c.state.Open() || !c.movable() {
		return
	}
	c.mover.wanted = true
	if c.silent() && c.state != life.Fresh {
		c.reader.deadline.interrupt(c.Conn)
	}
}

// park tells an adopted connection that the other process may take it back, if a Read into a buffer of the given size
// waits for the next request.
func (c *conn) park(size int) {
	c.mu.Lock()
	s := c.state
	waits := s == life.Rested || s == life.Idle
	plain := c.kind.plainHTTP1() && c.h2 == nil // of the others something is known here only
	parked := plain && waits && !c.begun(size)
	c.mu.Unlock()
	if parked && c.adopted.Kept() && readsAsKnown() {
		c.adopted.SetIdle()
	}
}

// enter notes a state that net/http reports.
func (c *conn) enter(reported http.ConnState) {
	var e life.Event
	switch reported {
	case http.StateActive:
		e = life.Request
	case http.StateIdle:
		e = life.Rest
	case http.StateHijacked:
		e = life.Hijack
	case http.StateClosed:
		e = life.Release
	default: // as the connection was registered
		return
	}
	c.mu.Lock()
	if c.view.report(reported) {
		c.reader.heard = c.view.since
	}
	do := c.step(e)
	if reported == http.StateIdle && c.h2 != nil {
		c.h2.rested()
	}
	unseen := reported == http.StateHijacked && !c.kind.wrapped() && c.kind.name == ""
	c.mu.Unlock()
	c.carryOut(do, c.Conn)
	if unseen { // nor is its end
		c.happen(life.Release)
	}
}

// flowLooks is how often in IdleGrace a drain looks whether a client takes bytes: they come and go, so two numbers may be
// equal.
const flowLooks = 8

// flow checks whether the client has taken bytes of a raw connection, and reports whether there are bytes to take. A
// Write or a copy by the kernel counts its bytes at its end only, which may be far off if the client is slow.
func (c *conn) flow(now time.Time) bool {
	if !c.kind.raw() {
		return false
	}
	n := sockbuf.Unsent(c.Conn)
	if n != c.reader.unsent {
		c.reader.unsent, c.reader.heard = n, now
	}
	return n > 0
}
