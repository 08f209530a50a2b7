package drain

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// deafTime is how often a linger after CloseRead looks for bytes in a drain. Before, it looks less and less often.
const deafTime = 10 * time.Millisecond

// Close closes the connection; during a drain, and of a raw connection always, in the order that lets the client read
// the last answer: if bytes of the client are unread at a close, or arrive after it, the kernel resets the connection, and
// the reset destroys what the client has not read yet. After SetLinger(0) or File a Close closes and no more, as the program
// wants it.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.gone.Load() || c.lingering {
		c.mu.Unlock()
		return nil
	}
	at := c.srv.at()
	linger := !c.closed && at < cutting && (at > serving || c.raw) && c.marks&(aborts|shared) == 0
	c.closed, c.lingering = true, linger
	c.mu.Unlock()
	if linger {
		go c.linger()
		return nil
	}
	err := c.Conn.Close()
	if c.current() == http.StateHijacked {
		c.strike()
	}
	return err
}

// linger ends when the client has closed, or lingerTime after the kernel of the client has taken the last byte. It is not
// done inside Close, since http.Server.Close closes one connection after the other under a lock.
func (c *conn) linger() {
	rest := int64(lingerBytes)
	discard := func() error {
		c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
		n, err := io.Copy(io.Discard, io.LimitReader(c.Conn, rest))
		rest -= n
		return err
	}
	began, pause := c.srv.began, deafTime
	for c.marked(deaf) && rest > 0 && c.unsent() { // with both sides closed here, the kernel answers more bytes by a reset
		discard()
		if c.srv.at() > serving {
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
	c.mu.Lock()
	c.lingering = false
	c.mu.Unlock()
	c.strike()
}

// unsent reports whether the client may still get bytes of the last answer that are on their way, and there is time.
func (c *conn) unsent() bool {
	at := c.srv.at()
	return sockbuf.Unsent(c.Conn) > 0 && at < cutting && (at < propagating || time.Now().Before(c.srv.latest))
}

// strike takes the connection off the ledger, if nothing of it is left: net/http has given it up or its owner has closed
// it, the last bytes are out of danger, and the handler of a raw one has returned.
func (c *conn) strike() {
	c.mu.Lock()
	state := c.state
	out := !c.lingering && !c.handling && (state == http.StateClosed || state == http.StateHijacked && c.closed)
	c.ended = c.ended || out
	cancel := c.cancel
	c.mu.Unlock()
	if !out {
		return
	}
	if cancel != nil {
		cancel(nil)
	}
	c.srv.ledger.remove(c, state)
}

// NetConn is the connection that the listener gave. What is done to it is not seen by the ledger.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Write writes, unless the connection has moved.
func (c *conn) Write(p []byte) (int, error) {
	if c.gone.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Write(p)
	c.wrote(int64(n))
	return n, err
}

// SetWriteDeadline sets the deadline, unless the connection has moved.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.gone.Load() {
		return net.ErrClosed
	}
	return c.Conn.SetWriteDeadline(t)
}

// CloseWrite closes the side of the server, where the connection has two.
func (c *conn) CloseWrite() error {
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || c.gone.Load() {
		return errors.ErrUnsupported
	}
	return w.CloseWrite()
}
