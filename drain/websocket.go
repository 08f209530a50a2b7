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
	// closeTime is how long a client has to answer it.
	closeTime = 5 * time.Second
)

// errRestart is the error of a message that is written after the close with status 1012.
var errRestart = errors.New("drain: the WebSocket was closed with status 1012, service restart")

// A wsConn is the connection of a WebSocket, above TLS. The library of the server knows nothing of a wsConn: a
// close frame is put between two messages of the server, and the answer of the client makes the library end.
type wsConn struct {
	net.Conn
	course  *course
	onClose func()        // may be nil
	gone    chan struct{} // closed by Close
	once    sync.Once
	mute    atomic.Bool // the client does not answer the close: a Read ends

	writing sync.Mutex // guards what follows
	out     frame.WebSocket
	asked   bool // a close is to be written
	closed  bool // a close was written, by us or by the library
}

// newWSConn makes the connection of a WebSocket, and what a program is given: with the methods of net's, where nc has
// them.
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

// A wsTCP is a wsConn with all that a *net.TCPConn has.
type wsTCP struct {
	*wsConn
	netconn.TCPControl
}

// A wsUnix is a wsConn with all that a *net.UnixConn has.
type wsUnix struct {
	*wsConn
	netconn.UnixControl
	netconn.Messages
}

var (
	_ netconn.TCP  = (*wsTCP)(nil)
	_ netconn.Unix = (*wsUnix)(nil)
)

// CloseWrite closes the side of the server.
func (c *wsTCP) CloseWrite() error { return c.wsConn.CloseWrite() }

// CloseWrite closes the side of the server.
func (c *wsUnix) CloseWrite() error { return c.wsConn.CloseWrite() }

// ReadFrom copies by a buffer: messages are followed.
func (c *wsTCP) ReadFrom(r io.Reader) (int64, error) {
	return through(struct{ io.Writer }{c.wsConn}, r)
}

// WriteTo lets the kernel copy where package net does.
func (c *wsTCP) WriteTo(w io.Writer) (int64, error) {
	n, err := c.Conn.(*tcpConn).WriteTo(w)
	if err != nil && c.mute.Load() { // as in Read
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

// ReadMsgUnix reads with what comes beside the bytes, such as credentials.
func (c *wsUnix) ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error) {
	n, oobn, flags, addr, err = c.Messages.ReadMsgUnix(b, oob)
	return n, oobn, flags, addr, c.ended(n, err)
}

// WriteMsgUnix writes. A WebSocket has no message with something beside the bytes.
func (c *wsUnix) WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error) {
	if len(oob) > 0 || addr != nil {
		return 0, 0, errors.ErrUnsupported
	}
	n, err = c.Write(b)
	return n, 0, err
}

// NetConn is the connection below.
func (c *wsConn) NetConn() net.Conn { return c.Conn }

// CloseWrite closes the side of the server, where the connection has two.
func (c *wsConn) CloseWrite() error {
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return w.CloseWrite()
}

// Read reads.
func (c *wsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.ended(n, err)
}

// ended is the error of a read: an end, if the client has not answered the close.
func (c *wsConn) ended(n int, err error) error {
	if n == 0 && c.mute.Load() {
		return io.EOF
	}
	return err
}

// Write writes, and puts a close in after a message if there is to be one. After the close a message is refused, and the
// answer of the library to the close of the client is dropped: the client has its close already.
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

// tell asks for a close, and writes it if there is no message on its way.
func (c *wsConn) tell() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.asked = !c.closed
	if c.asked && c.out.Between() {
		c.close()
	}
}

// close writes the close. The library meets an error, if there is one, too.
func (c *wsConn) close() {
	c.closed = true
	io.WriteString(c.Conn, closeFrame)
}

// closeGracefully closes the WebSocket. A client that does not answer is taken as gone.
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

// SetReadDeadline sets the deadline, unless the connection has to end.
func (c *wsConn) SetReadDeadline(t time.Time) error {
	if c.mute.Load() {
		t = past
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *wsConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Close closes the connection.
func (c *wsConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	err := c.Conn.Close()
	if c.onClose != nil {
		c.onClose()
	}
	return err
}
