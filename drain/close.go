package drain

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Close closes the connection; during a drain in the order that lets the client read the last answer: if bytes of the
// client are unread at a close, or arrive after it, the kernel resets the connection, and the reset destroys what the
// client has not read yet. A hijacked connection is closed as its owner says.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.gone.Load() || c.lingering {
		c.mu.Unlock()
		return nil
	}
	hijacked := c.state == http.StateHijacked
	at := c.srv.at()
	linger := !c.closed && !hijacked && serving < at && at < expired
	c.closed, c.lingering = true, linger
	c.mu.Unlock()
	if linger {
		go c.linger()
		return nil
	}
	err := c.Conn.Close()
	if hijacked {
		c.srv.ledger.remove(c, http.StateHijacked)
	}
	return err
}

// linger ends after lingerTime at most. It is not done inside Close, since http.Server.Close closes one connection
// after the other under a lock.
func (c *conn) linger() {
	if c.CloseWrite() == nil {
		c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
		io.Copy(io.Discard, io.LimitReader(c.Conn, lingerBytes))
	}
	c.Conn.Close()
	c.mu.Lock()
	c.lingering = false
	out := c.state == http.StateClosed
	c.mu.Unlock()
	if out {
		c.srv.ledger.remove(c, http.StateClosed)
	}
}

// cut closes the connection without regard to what goes on.
func (c *conn) cut() {
	c.mu.Lock()
	c.closed = true
	gone, hijacked := c.gone.Load(), c.state == http.StateHijacked
	c.mu.Unlock()
	below := c.Conn
	if t, ok := below.(*tls.Conn); ok { // its own Close may wait until a farewell is written
		below = t.NetConn()
	}
	if !gone {
		below.Close()
	}
	if hijacked {
		c.srv.ledger.remove(c, http.StateHijacked)
	}
}

// NetConn is the connection that the listener gave. What is done to it is not seen by the ledger.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Write writes, unless the connection has moved.
func (c *conn) Write(p []byte) (int, error) {
	if c.gone.Load() {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
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
	if rf, ok := c.Conn.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(c.Conn, r, buf[:])
}

// buffers are for connections that cannot copy by themselves, as net/http has them for those.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// WriteTo lets the kernel copy, where it can. Only the owner of a hijacked connection calls it: net/http reads.
func (c *conn) WriteTo(w io.Writer) (int64, error) {
	if c.gone.Load() {
		return 0, io.EOF
	}
	return io.Copy(w, c.Conn)
}

// SyscallConn gives access to the descriptor, where there is one.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok || c.gone.Load() {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}
