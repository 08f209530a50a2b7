package drain

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/drain/internal/frame"
	"github.com/midair-go/midair/drain/internal/netconn"
)

const (
	// closeFrame is a close with status 1012, service restart.
	closeFrame = "\x88\x11\x03\xf4service restart"
	// closeTime is how long a client has to answer closeFrame.
	closeTime = 5 * time.Second
)

// errRestart is the error of a message that is written after closeFrame.
var errRestart = errors.New("drain: the WebSocket was closed with status 1012, service restart")

// A wsConn is the wrapper of a WebSocket connection, above its TLS. In a drain, the wsConn inserts a close frame between two
// messages of the server. When the client answers the close, the program's WebSocket library ends the connection, as if the
// client had begun the close. So the library does not have to know of the wsConn.
type wsConn struct {
	net.Conn
	course  *course
	onClose func()        // Close calls this function; may be nil
	gone    chan struct{} // closed by Close
	once    sync.Once     // closes gone
	mute    atomic.Bool   // the client has not answered closeFrame in time: every Read returns io.EOF

	writing sync.Mutex // guards the fields below
	out     frame.WebSocket
	asked   bool // the drain wants a close: Write has to write closeFrame between two messages
	closed  bool // a close frame was written, by the wsConn or by the library
}

// newWSConn makes the wsConn of a WebSocket, and the connection that is given to the program. The given connection has the
// methods of a *net.TCPConn or *net.UnixConn if nc has them.
func newWSConn(nc net.Conn, course *course) (ws *wsConn, given net.Conn) {
	ws = &wsConn{Conn: nc, course: course, gone: make(chan struct{})}
	switch below := nc.(type) {
	case *tcpConn:
		return ws, &wsTCP{ws, below}
	case *unixConn:
		return ws, &wsUnix{ws, below, below}
	}
	return ws, ws
}

// A wsTCP is a wsConn with all methods of a *net.TCPConn.
type wsTCP struct {
	*wsConn
	netconn.TCPControl
}

// A wsUnix is a wsConn with all methods of a *net.UnixConn.
type wsUnix struct {
	*wsConn
	netconn.UnixControl
	netconn.Messages
}

var (
	_ netconn.TCP  = (*wsTCP)(nil)
	_ netconn.Unix = (*wsUnix)(nil)
)

// CloseWrite shuts down the writing side of the connection.
func (c *wsTCP) CloseWrite() error { return c.wsConn.CloseWrite() }

// CloseWrite shuts down the writing side of the connection.
func (c *wsUnix) CloseWrite() error { return c.wsConn.CloseWrite() }

// ReadFrom copies from r through a buffer, so that Write sees the frames.
func (c *wsTCP) ReadFrom(r io.Reader) (int64, error) {
	return through(struct{ io.Writer }{c.wsConn}, r)
}

// WriteTo copies from the connection to w. If package net would let the kernel copy, WriteTo does so too.
func (c *wsTCP) WriteTo(w io.Writer) (int64, error) {
	n, err := c.Conn.(*tcpConn).WriteTo(w)
	if err != nil && c.mute.Load() { // a Read would return io.EOF here, and a copy ends at io.EOF without an error
		err = nil
	}
	return n, err
}

// ReadFrom reads a message and the address of its sender.
func (c *wsUnix) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := c.Messages.ReadFrom(b)
	return n, addr, c.ended(n, err)
}

// ReadFromUnix reads a message and the address of its sender.
func (c *wsUnix) ReadFromUnix(b []byte) (int, *net.UnixAddr, error) {
	n, addr, err := c.Messages.ReadFromUnix(b)
	return n, addr, c.ended(n, err)
}

// ReadMsgUnix reads bytes into b and ancillary data, such as credentials, into oob.
func (c *wsUnix) ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error) {
	n, oobn, flags, addr, err = c.Messages.ReadMsgUnix(b, oob)
	return n, oobn, flags, addr, c.ended(n, err)
}

// WriteMsgUnix writes the bytes b. A WebSocket has no ancillary data and no other address, so oob and addr must be empty.
func (c *wsUnix) WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error) {
	if len(oob) > 0 || addr != nil {
		return 0, 0, errors.ErrUnsupported
	}
	n, err = c.Write(b)
	return n, 0, err
}

// NetConn returns the connection below.
func (c *wsConn) NetConn() net.Conn { return c.Conn }

// CloseWrite shuts down the writing side of the connection, if the connection below has the method CloseWrite.
func (c *wsConn) CloseWrite() error {
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return w.CloseWrite()
}

// Read reads from the connection below. If the client has not answered closeFrame in time, Read returns io.EOF.
func (c *wsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.ended(n, err)
}

// ended returns the error for a read that has returned n and err. It returns io.EOF if nothing was read and the client has not
// answered closeFrame in time. Otherwise it returns err.
func (c *wsConn) ended(n int, err error) error {
	if n == 0 && c.mute.Load() {
		return io.EOF
	}
	return err
}

// Write writes p, and inserts closeFrame after a message if the drain wants a close. After closeFrame, Write refuses messages
// with an error. It drops control frames without an error. Such a frame is, for example, the close by which the library answers
// the close of the client: the client has already got closeFrame, and must not get a second close.
func (c *wsConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed && c.asked {
		if len(p) > 0 && p[0]&0x08 != 0 {
			return len(p), nil
		}
		return 0, errRestart
	}
	seen, written := 0, 0
	for seen < len(p) {
		n, end := c.out.Next(p[seen:])
		seen += n
		c.closed = c.closed || end && c.out.Closing()
		if c.asked && !c.closed && c.out.Between() {
			n, err := c.Conn.Write(p[written:seen])
			written += n
			if err != nil {
				return written, err
			}
			c.close()
			if written < len(p) {
				return written, errRestart
			}
			return written, nil
		}
	}
	n, err := c.Conn.Write(p[written:])
	return written + n, err
}

// tell asks for a close, and writes closeFrame at once unless a message is being written.
func (c *wsConn) tell() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.asked = !c.closed
	if c.asked && c.out.Between() {
		c.close()
	}
}

// close writes closeFrame. It ignores the error, since the next Write or Read of the library gets an error as well.
func (c *wsConn) close() {
	c.closed = true
	io.WriteString(c.Conn, closeFrame)
}

// closeGracefully calls tell, and waits until the library calls Close. If the client does not answer closeFrame in time, every
// Read of the library returns io.EOF.
func (c *wsConn) closeGracefully(ctx context.Context) {
	c.tell()
	t := time.NewTimer(min(closeTime, time.Until(c.course.latest)))
	defer t.Stop()
	select {
	case <-c.gone:
		return
	case <-ctx.Done():
		return
	case <-t.C:
	}
	c.mute.Store(true)
	c.Conn.SetReadDeadline(past)
}

// SetReadDeadline sets the deadline. If the client has not answered closeFrame in time, SetReadDeadline sets a deadline in the
// past instead, so that every Read ends at once.
func (c *wsConn) SetReadDeadline(t time.Time) error {
	if c.mute.Load() {
		t = past
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline calls SetReadDeadline and SetWriteDeadline.
func (c *wsConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Close closes the connection, and calls onClose.
func (c *wsConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	err := c.Conn.Close()
	if c.onClose != nil {
		c.onClose()
	}
	return err
}
