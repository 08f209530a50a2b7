package drain

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// Close closes the connection; during a drain, and of a raw connection always, in the order that lets the client read
// the last answer: if bytes of the client are unread at a close, or arrive after it, the kernel resets the connection, and
// the reset destroys what the client has not read yet.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.gone.Load() || c.lingering {
		c.mu.Unlock()
		return nil
	}
	at := c.srv.at()
	linger := !c.closed && at < cutting && (at > serving || c.raw)
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
	if c.CloseWrite() == nil {
		rest := int64(lingerBytes)
		for more := true; more; {
			c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
			n, err := io.Copy(io.Discard, io.LimitReader(c.Conn, rest))
			rest -= n
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
	c.written.Add(int64(n))
	if c.raw {
		c.mu.Lock()
		c.heard = time.Now()
		c.mu.Unlock()
	}
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

// ReadFrom lets the kernel copy, where it can.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if c.gone.Load() {
		return 0, net.ErrClosed
	}
	if c.raw {
		return through(struct{ io.Writer }{c}, r)
	}
	n, err := c.copy(r)
	c.written.Add(n)
	return n, err
}

// through copies by a buffer: whether something is said on a raw connection has to be seen.
func through(w io.Writer, r io.Reader) (int64, error) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(w, struct{ io.Reader }{r}, buf[:])
}

func (c *conn) copy(r io.Reader) (int64, error) {
	if rf, ok := c.Conn.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return through(c.Conn, r)
}

// buffers are for connections that cannot copy by themselves, as net/http has them for those.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// WriteTo lets the kernel copy, where it can. Only the owner of a hijacked connection calls it: net/http reads.
func (c *conn) WriteTo(w io.Writer) (int64, error) {
	if c.gone.Load() {
		return 0, io.EOF
	}
	if c.raw {
		return through(w, c)
	}
	n, err := io.Copy(w, c.Conn)
	c.read.Add(n)
	return n, err
}

// SyscallConn gives access to the descriptor, where there is one.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok || c.gone.Load() {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}
