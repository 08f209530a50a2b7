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
	// lingerTime and lingerBytes bound what is read after the last answer, until the client closes.
	lingerTime  = time.Second
	lingerBytes = 4 << 20
	// deafTime is how often a linger after CloseRead looks for bytes in a drain. Before, the pauses grow.
	deafTime = 10 * time.Millisecond
)

// A closer ends a WebSocket or an event stream in the way of its protocol.
type closer interface {
	// closeGracefully begins the end. It may wait for the client, and returns when ctx ends at the latest.
	closeGracefully(ctx context.Context)
}

// step moves the life of the connection on, and does the part of the action that belongs under c.mu. The caller has
// locked c.mu, and hands the action to carryOut after the unlock.
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
		c.reader.heard, c.mover.asked = time.Now(), declined
	}
	return s.Do
}

// carryOut does the part of an action that belongs outside of c.mu. Socket is what Drop closes.
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

// happen is step and carryOut.
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

// Close closes the connection; during a drain, and of a raw connection always, in the order that lets the client read
// the last answer: if bytes of the client are unread at a close, or arrive later, the kernel resets the connection, and
// the reset destroys the bytes of the answer that the client has not read yet. After SetLinger(0) or File, a Close only
// closes.
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

// linger ends when the client has closed, or lingerTime after the kernel of the client has taken the last byte. Close
// does not do so itself, since http.Server.Close closes one connection after the other under a lock.
func (c *conn) linger() {
	rest := int64(lingerBytes)
	discard := func() error {
		c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
		n, err := io.Copy(io.Discard, io.LimitReader(c.Conn, rest))
		rest -= n
		return err
	}
	began, pause := c.course.began, deafTime
	for c.isSet(&c.marks.deaf) && rest > 0 && c.unsent() { // with both sides closed here, the kernel answers more bytes by a reset
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

// unsent reports whether the client may still get bytes of the last answer that are on their way, and there is time.
func (c *conn) unsent() bool {
	at := c.course.at()
	return sockbuf.Unsent(c.Conn) > 0 && at < cutting && (at < propagating || time.Now().Before(c.course.latest))
}

// CloseWrite closes the side of the server, where the connection has two.
func (c *conn) CloseWrite() error {
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || c.stop() == life.Moved {
		return errors.ErrUnsupported
	}
	return w.CloseWrite()
}

// closers returns the closers of the WebSocket and the event streams of the connection, and the h2conn; nil if there is
// none.
func (c *conn) closers() (h2 *h2conn, streams []closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil && !c.course.keepWebSockets {
		streams = append(streams, c.stream)
	}
	for q := c.view.running; q != nil; q = q.next {
		if q.events != nil {
			streams = append(streams, q.events)
		}
	}
	return c.h2, streams
}

// working reports whether something goes on at the connection: a request is being read or answered, a hijack has not
// ended, or a Move has not returned.
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
	case life.Shut: // its handler may not have returned
		return c.view.reported == http.StateActive || c.kind.raw()
	}
	return true
}

// escalate takes a step against the connection, and returns which it was; none if the connection has ended.
func (c *conn) escalate(action string) string {
	c.mu.Lock()
	state, cancel := c.state, c.cancel
	answering, elsewhere := c.answering(), c.marks.shared
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
	case action == stepHalfClose && answering: // an answer of which a part is missing would look complete
		return ""
	case action == stepHalfClose && elsewhere: // it would end there too
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

// answering reports whether an answer of HTTP/1 may be incomplete: where its end is the end of the connection, only a
// reset tells the client.
func (c *conn) answering() bool {
	return c.view.reported == http.StateActive && !c.kind.http2
}

// resets makes the close of a connection a reset, where the connection has a reset, and reports so.
func resets(nc net.Conn) bool {
	l, ok := nc.(interface{ SetLinger(int) error })
	return ok && l.SetLinger(0) == nil
}

// cut closes the connection without regard to what goes on, and reports whether the close had to be a reset.
func (c *conn) cut() (reset bool) {
	c.mu.Lock()
	answering := c.answering()
	do := c.step(life.Cut)
	c.mu.Unlock()
	socket := c.Conn
	if t, ok := socket.(*tls.Conn); ok { // its own Close may wait until its last message is written
		socket = t.NetConn()
	}
	if do == life.Drop || do == life.DropUntrack {
		reset = answering && resets(socket)
	}
	c.carryOut(do, socket)
	return reset
}
