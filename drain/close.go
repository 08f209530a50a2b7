package drain

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain/internal/life"
	"github.com/midair-go/midair/drain/internal/sockbuf"
)

const (
	// A linger reads from the client after the last answer. lingerTime is how long it waits for the client once all bytes are
	// acknowledged. lingerBytes is how much it reads at most.
	lingerTime  = time.Second
	lingerBytes = 4 << 20
	// deafTime is a pause. After CloseRead, a linger looks again and again for bytes of the client, with a pause after each
	// look. In a drain each pause is deafTime. Before the drain the first pause is deafTime, and each later pause is twice as
	// long as the pause before it, up to lingerTime.
	deafTime = 10 * time.Millisecond
)

// A closer ends a WebSocket or an event stream as its protocol wants.
type closer interface {
	// closeGracefully begins to end the stream. It may wait for the client, but not after the end of ctx.
	closeGracefully(ctx context.Context)
}

// step changes the state of the connection for the event e, as the table of package life says. The table also says which action
// to do. step returns this action, and does the part of it that needs c.mu. The caller has locked c.mu, and calls carryOut for
// the other part after the unlock.
func (c *conn) step(e life.Event) life.Action {
	s := life.Next(c.state, e)
	if c.state = s.Next; !c.state.Reads() {
		c.stopped.Store(uint32(c.state))
	}
	switch s.Do {
	case life.Restore:
		c.reader.deadline.restore(c.Conn)
	case life.Reset:
		c.reader.deadline.restore(c.Conn)
		c.rest()
	case life.Extend:
		c.reader.heard, c.mover.asked = instant(), declined
	}
	c.noteSteady()
	return s.Do
}

// noteSteady stores the result of inRequest. The caller has locked c.mu.
func (c *conn) noteSteady() {
	if steady := c.inRequest(); steady != c.steady.Load() {
		c.steady.Store(steady)
	}
}

// inRequest reports whether a request of HTTP/1 is being read or answered. If so, no drain interrupts a Read, so until the next
// state that net/http reports, and until a Close, neither a Read nor a read deadline changes anything in the conn. Then both need
// no lock: with locks, the Reads and the deadlines of net/http would be half of what package drain adds to a request.
func (c *conn) inRequest() bool {
	first := &c.reader.first
	return (c.state == life.Active || c.state == life.Reading) && !c.kind.http2 && !c.reader.deadline.interrupted &&
		!first.waiting && first.shift == 0
}

// SetReadDeadline sets the deadline. While a drain interrupts the Read, the deadline is stored, and set when the
// interruption is over.
func (c *conn) SetReadDeadline(t time.Time) error {
	steady := c.steady.Load()
	if steady {
		if err := c.Conn.SetReadDeadline(t); c.steady.Load() {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if steady {
		c.putBack()
	}
	if !c.state.Open() {
		return net.ErrClosed
	}
	c.step(life.Deadline)
	return c.reader.deadline.set(c.Conn, c.reader.first.deadline(t))
}

// putBack is called when the request has ended while a deadline was set without a lock: perhaps this deadline has replaced the
// deadline of linger, or the deadline that interrupts a Read. putBack sets the replaced deadline again.
func (c *conn) putBack() {
	switch {
	case c.state.Lingers():
		c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	case c.reader.deadline.interrupted:
		c.Conn.SetReadDeadline(past)
	}
}

// carryOut does the part of an action that must be done without c.mu. Drop and DropUntrack close socket.
func (c *conn) carryOut(do life.Action, socket net.Conn) (err error) {
	switch do {
	case life.Drop:
		return socket.Close()
	case life.DropUntrack:
		err = socket.Close()
		c.untrack()
	case life.Untrack:
		c.untrack()
	case life.NoteHijack:
		c.registry.hijacked(c)
	case life.Discard:
		go c.linger()
	}
	return err
}

// happen calls step and carryOut, and locks c.mu for step.
func (c *conn) happen(e life.Event) error {
	c.mu.Lock()
	do := c.step(e)
	c.mu.Unlock()
	return c.carryOut(do, c.Conn)
}

// untrack takes the connection off the registry, and ends the contexts of its requests.
func (c *conn) untrack() {
	c.mu.Lock()
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel(nil)
	}
	c.registry.remove(c)
}

// Close closes the connection. Before a drain, Close does so at once. In a drain, Close starts linger, which closes the
// connection later. For a raw connection, Close starts linger before a drain too. linger gives the client time to read the last
// answer. Without linger, the kernel would reset the connection if bytes of the client are unread at the close or arrive later.
// The client would then lose the part of the answer that it has not read. After SetLinger(0) or File, and from the stage
// cutting on, Close never starts linger.
func (c *conn) Close() error {
	c.mu.Lock()
	at := c.course.at()
	e := life.Close
	if at < cutting && (at > serving || c.kind.raw()) && !c.marks.aborts && !c.marks.shared {
		e = life.Linger
	}
	do := c.step(e)
	c.mu.Unlock()
	return c.carryOut(do, c.Conn)
}

// linger shuts down the writing side, reads and discards until the client has closed, and then closes the connection. Once the
// kernel of the client has acknowledged the last byte, linger waits for the client for lingerTime at most. linger runs in its
// own goroutine because Close must not wait: http.Server.Close closes all connections under a lock.
func (c *conn) linger() {
	rest := int64(lingerBytes)
	discard := func() error {
		c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
		n, err := io.Copy(io.Discard, io.LimitReader(c.Conn, rest))
		rest -= n
		return err
	}
	began, pause := c.course.began, deafTime
	// After CloseRead, the writing side must not be shut down before the client has acknowledged everything. Otherwise both
	// sides are shut down, and the kernel answers more bytes of the client by a reset.
	for c.isSet(&c.marks.deaf) && rest > 0 && c.unsent() {
		discard()
		if c.course.at() > serving {
			began, pause = nil, deafTime
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, lingerTime)
		case <-began:
		}
	}
	if c.CloseWrite() == nil {
		for more := true; more; {
			err := discard()
			more = err != nil && timeout(err) && rest > 0 && c.unsent()
		}
	}
	c.Conn.Close()
	c.happen(life.Lingered)
}

// unsent reports whether linger should go on waiting: the client has not acknowledged all bytes of the last answer, and there
// is still time.
func (c *conn) unsent() bool {
	at := c.course.at()
	return sockbuf.Unsent(c.Conn) > 0 && at < cutting && (at < propagating || time.Now().Before(c.course.latest))
}

// CloseWrite shuts down the writing side of the connection, if the connection below has the method CloseWrite.
func (c *conn) CloseWrite() error {
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || c.stop() == life.Moved {
		return errors.ErrUnsupported
	}
	return w.CloseWrite()
}

// closers returns what a drain ends on this connection: the h2conn, or nil if there is none, and the closers of streams. A
// WebSocket has a closer unless Options.KeepWebSockets is set, and each event stream has a closer.
func (c *conn) closers() (h2 *h2conn, streams []closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil && !c.course.keepWebSockets {
		streams = append(streams, c.stream)
	}
	if c.view.events != nil {
		streams = append(streams, c.view.events)
	}
	for q := c.view.running; q != nil; q = q.next {
		if q.events != nil {
			streams = append(streams, q.events)
		}
	}
	return c.h2, streams
}

// working reports whether the connection is in use: a request is being read or answered, a hijacked or raw connection has
// not ended, or a Move has not returned.
func (c *conn) working() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view.reported == http.StateClosed || c.h2 != nil && c.view.reported == http.StateIdle {
		return false
	}
	switch c.state {
	case life.Fresh, life.Rested, life.Idle:
		return c.h2 != nil || c.mover.asked == asking
	case life.Parted, life.Moved, life.Lingering, life.Released, life.Ended:
		return false
	case life.Shut: // the socket is closed, but perhaps the handler has not returned
		return c.view.reported == http.StateActive || c.kind.raw()
	}
	return true
}

// escalate takes a step (the parameter action) against the connection, and returns the step that was taken. If a close was a
// reset, it returns stepReset. It returns "" if no step was taken.
func (c *conn) escalate(action string) string {
	c.mu.Lock()
	state, cancel := c.state, c.cancel
	answering, shared := c.answering(), c.marks.shared
	c.mu.Unlock()
	switch {
	case state.Lingers() || state == life.Ended:
		return ""
	case action == stepCancel && cancel != nil:
		cancel(ErrExpired)
	case state == life.Moved:
	case action == stepDeadline:
		if answering {
			resets(c.Conn)
		}
		c.Conn.SetDeadline(past)
	case action == stepHalfClose && answering: // the client would take an incomplete answer as complete
		return ""
	case action == stepHalfClose && shared: // the half close would end the connection for its other owner too
		return ""
	case action == stepHalfClose:
		c.CloseWrite()
	case action == stepClose && c.cut():
		action = stepReset
	}
	c.mu.Lock()
	c.view.action = action
	c.mu.Unlock()
	return action
}

// answering reports whether an answer of HTTP/1 may be incomplete. A drain ends a connection with such an answer only by a
// reset. Without the reset, a client could take the end of the connection as the end of the answer, and the answer as complete.
func (c *conn) answering() bool {
	return c.view.reported == http.StateActive && !c.kind.http2
}

// resets makes the later close of nc a reset, and reports whether nc supports that.
func resets(nc net.Conn) bool {
	l, ok := nc.(interface{ SetLinger(int) error })
	return ok && l.SetLinger(0) == nil
}

// cut closes the connection at once, even if it is in use, and reports whether the close was a reset.
func (c *conn) cut() (reset bool) {
	c.mu.Lock()
	answering := c.answering()
	do := c.step(life.Cut)
	c.mu.Unlock()
	socket := c.Conn
	if t, ok := socket.(*tls.Conn); ok { // Close of a *tls.Conn sends a last message, and may have to wait for a Write
		socket = t.NetConn()
	}
	if do == life.Drop || do == life.DropUntrack {
		reset = answering && resets(socket)
	}
	c.carryOut(do, socket)
	return reset
}
