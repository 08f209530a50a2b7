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

// An idle connection may be closed only if no request was read. Only the goroutine that reads the requests can be certain of
// that. So the drain interrupts the Read that waits for the next request (readDeadline), and the interrupted Read decides
// whether the connection is closed (part). net/http may set deadlines between the interruption and the decision: these
// deadlines are only stored.

// A reader is the part of a conn that decides whether an idle connection may be closed.
type reader struct {
	deadline readDeadline
	heard    moment // when IdleGrace began: at the last change of state, or when the connection was last found to be in use
	first    idleDeadline
	preface  frame.Preface
	unsent   int // how many bytes of a raw connection were unsent when flow looked last
}

// A mover notes for a conn whether Move is to be asked, and whether Move was asked.
type mover struct {
	wanted bool // Options.Rebalance wants Move to be asked once; a drain asks Move even if wanted is false
	asked  asked
}

// asked says whether Move was asked since the connection became idle.
type asked uint8

const (
	notAsked asked = iota
	asking         // Move was called and has not returned
	declined       // Move is not to be asked again before the connection is due
)

// Read reads from the connection. If a drain or Options.Rebalance has interrupted Read, Read decides whether the connection
// ends here. If so, Read returns io.EOF. Otherwise it reads again.
func (c *conn) Read(p []byte) (int, error) {
	for c.stop().Reads() {
		if c.adopted != nil {
			c.park(len(p))
		}
		n, err := c.Conn.Read(p)
		if n > 0 {
			c.read.Add(int64(n))
		}
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

// unread returns the error of a Read in a state in which Read must not read.
func (c *conn) unread() error {
	if c.stop().EOF() {
		return io.EOF
	}
	return net.ErrClosed
}

// receive is like Read, but it calls the function read in place of the Read of the accepted connection. size is the length of
// the buffer that read fills.
func (c *conn) receive(size int, read func() (int, error)) (int, error) {
	for c.stop().Reads() {
		n, err := read()
		n = max(n, 0) // package net returns -1 for a ReadMsgUnix that failed
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

// A verdict says how a Read goes on after the Read of the accepted connection has returned.
type verdict int

const (
	pass  verdict = iota // return the result to the caller
	again                // read again: the Read was interrupted, but the connection does not end now
	over                 // return io.EOF: the connection ends
)

// judge returns the verdict after a read that has returned n and err. size is the length of the buffer of the read. got has the
// n bytes, or is nil if the caller does not have them.
func (c *conn) judge(got []byte, n, size int, err error) verdict {
	if c.steady.Load() {
		return pass
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.judged(got, n, size, err)
}

// judged is judge for a caller that has locked c.mu.
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
	if c.state.Open() { // after a Close, linger sets the deadlines
		c.reader.deadline.restore(c.Conn)
	}
	return again
}

// touch notes that the bytes p were read.
func (c *conn) touch(p []byte) {
	if s := c.state; s == life.Fresh || s == life.Arriving {
		if c.kind.secure() {
			c.reader.heard = instant()
		} else {
			c.kind.http2 = c.reader.preface.Next(p)
		}
	}
	if c.kind.raw() {
		c.reader.heard = instant()
	}
	if c.reader.first.waiting {
		// With interrupted, c.step sets the deadline asked.
		c.reader.deadline = readDeadline{asked: c.reader.first.arrived(), interrupted: true}
	}
	c.step(life.Bytes)
	if c.state == life.Begun && len(p) >= 4 && c.kind.plainHTTP1() { // net/http sets the deadline for the header now
		c.step(life.Deadline)
	}
}

// part decides whether the connection ends in a Read: either the drain closes the connection, or Move takes it. size is the
// length of the buffer of the Read. If one to three bytes of a next request have come, the connection stays open for one more
// IdleGrace. It does not stay open longer, since some clients send a line end too many after a body.
func (c *conn) part(size int) bool {
	switch {
	case !c.silent() || sockbuf.Queued(c.Conn):
		return false
	case c.course.at() < draining:
		if c.wanted(size) {
			return true
		}
		if c.course.at() < draining || sockbuf.Queued(c.Conn) {
			return false
		} // the drain has begun while Move ran
	}
	switch {
	case c.begun(size):
		c.step(life.Find)
	case c.movable() && c.may(life.Take) && c.offer():
		return true
	}
	return !c.due().After(time.Now()) && !sockbuf.Queued(c.Conn) && c.step(life.Part) == life.EndRead
}

// may reports whether an event is possible in the present state.
func (c *conn) may(e life.Event) bool { return life.Next(c.state, e).Do != life.Impossible }

// movable reports whether Move can take the connection: Options.Move is set, the connection has HTTP/1 without TLS on a socket,
// and net/http was found to read in the known way. The server calls readsAsKnown before it wants any connection to move.
func (c *conn) movable() bool {
	return c.course.move != nil && c.kind.socket && c.kind.plainHTTP1() && wasFoundKnown()
}

// offer asks Move, and reports whether Move has taken the connection. While Move runs, c.mu is unlocked, and only a cut can
// end the connection. If Move panics, the connection is not taken.
func (c *conn) offer() (taken bool) {
	c.mover.asked = asking
	c.Conn.SetDeadline(time.Time{})
	c.mu.Unlock()
	moved := false
	defer func() {
		c.mu.Lock()
		c.mover.asked = declined
		if moved {
			c.reader.deadline.interrupted = false // the new owner sets the deadlines from now on
			taken = c.step(life.Take) == life.EndRead
		}
	}()
	moved = c.course.move(c.Conn)
	return false
}

// wanted asks Move if Options.Rebalance wants Move to be asked, and reports whether Move has taken the connection. It is called
// in the stages before draining, in which no idle connection is closed. If something is received from Rebalance while Move
// runs, Move is asked once more. If the client sends something while Move runs, Move is asked after that request.
func (c *conn) wanted(size int) bool {
	for c.mover.wanted && c.movable() && c.may(life.Take) && !c.begun(size) && !sockbuf.Queued(c.Conn) {
		c.mover.wanted = false // while Move runs, propose may set wanted again
		taken := c.offer()
		c.mover.asked = notAsked // the drain must ask Move again
		if taken {
			return true
		}
		c.mover.wanted = c.mover.wanted || sockbuf.Queued(c.Conn)
	}
	return false
}

// silent reports whether the connection waits for the client and has nothing to do. A connection is silent:
//
//	a new connection           until the first byte was read
//	a new connection with TLS  until a request was read: a conn below TLS cannot see the end of the handshake
//	between two requests       until four bytes of the next request were read: then net/http replaces the deadline of the
//	                           idle connection by a deadline for the header
//	HTTP/2                     if there is no stream; with an h2conn never
//	a raw connection           unless the kernel copies from it
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

// begun reports whether net/http has read one to three bytes of a next request, and waits for the rest. Usually the state shows
// such bytes. The state does not show them if they came together with the request before. Then size shows them: size is the
// length of the buffer of the Read, and net/http passes the free part of its own buffer. The whole buffer has a power of two as
// its length, so any other size means that the buffer holds bytes. Below TLS, size shows nothing.
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

// due returns the time at which the connection may be closed if it is silent until then.
func (c *conn) due() time.Time {
	grace := c.course.idle
	switch c.state {
	case life.Fresh:
		grace = c.course.silent
	case life.Rested, life.Idle, life.Begun, life.Reading:
		grace = c.course.idleGrace()
	}
	due := c.reader.heard.time().Add(grace)
	if c.course.latest.Before(due) {
		return c.course.latest
	}
	return due
}

// consider looks at a connection if it is silent. It interrupts the Read if the connection is due, or if Move has to be asked
// first. consider returns the time at which a scan has to look again, and true. It returns false if no scan has to look again.
//
// A connection without a wrapper (tlsOutside) cannot be interrupted. When such a connection is due, consider sets a read
// deadline in the past, which makes the Read of net/http fail. net/http may replace this deadline, so each later scan sets it
// again.
func (c *conn) consider(now time.Time) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.silent() || c.reader.deadline.interrupted {
		return time.Time{}, false
	}
	flows := c.flow()
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

// press interrupts the Read if late is true, which means that the connection is due. Even if late is false, press interrupts
// the Read if Move has not been asked yet and can take the connection.
func (c *conn) press(late bool) {
	if late || c.movable() && c.mover.asked == notAsked {
		c.reader.deadline.interrupt(c.Conn)
	}
}

// rest notes that the connection has become idle. It interrupts the next Read if Rebalance wants Move to be asked. From the
// stage draining on, rest also calls press: shortly before Grace ends, a connection is due as soon as it is idle.
func (c *conn) rest() {
	c.mover.asked = notAsked
	c.reader.first.shift = 0
	if c.mover.wanted && c.movable() {
		c.reader.deadline.interrupt(c.Conn)
	}
	if c.course.at() >= draining && c.kind.wrapped() {
		c.press(!c.due().After(c.view.since.time()))
	}
}

// propose makes the Read of the connection ask Move once, if Move can take the connection. Read asks at once if the connection
// is idle or came from another process, otherwise when it becomes idle: a new connection may begin to speak HTTP/2.
func (c *conn) propose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.kind.wrapped() || !c.state.Open() || !c.movable() {
		return
	}
	c.mover.wanted = true
	if c.silent() && (c.state != life.Fresh || c.adopted != nil) {
		c.reader.deadline.interrupt(c.Conn)
	}
}

// park is called before a Read of an adopted connection into a buffer of the given size. It calls SetIdle if the Read is going
// to wait for the next request and no byte of the request was read. After SetIdle, the other process can take the connection
// back if this process dies.
func (c *conn) park(size int) {
	c.mu.Lock()
	s := c.state
	waits := s == life.Rested || s == life.Idle
	plain := c.kind.plainHTTP1() && c.h2 == nil // other connections have state, such as TLS keys, that only this process has
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
	default: // http.StateNew: a connection is in this state when it is registered
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
	if unseen { // without a wrapper, the Close cannot be seen, so the connection leaves the registry now
		c.happen(life.Release)
	}
}

// flowLooks is how often in each IdleGrace a drain counts the unsent bytes of a raw connection. One look would not be enough:
// if the client has taken as many bytes as the handler has written, the count has not changed.
const flowLooks = 8

// flow compares the number of unsent bytes of a raw connection with the number at the last look. If the number has changed,
// flow restarts the IdleGrace. It reports whether there are unsent bytes. Without flow, a connection with a slow client would
// look silent during a long Write or a long copy by the kernel, because their bytes are counted only at the end.
func (c *conn) flow() bool {
	if !c.kind.raw() {
		return false
	}
	n := sockbuf.Unsent(c.Conn)
	if n != c.reader.unsent {
		c.reader.unsent, c.reader.heard = n, instant()
	}
	return n > 0
}
