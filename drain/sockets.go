package drain

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/midair-go/midair/drain/internal/netconn"
	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// What a program is given is a wrapper, whose Close the ledger has to see. So that the program finds in the wrapper what
// package net has, there is one type for each of net's: tcpConn and unixConn. A connection of another listener is a conn.

// Bits of conn.marks: what the program did to the socket.
const (
	deaf    = 1 << iota // CloseRead was called: an end that is read is not the client's
	aborts              // SetLinger(0) was called: a Close is to reset
	shared              // File was called: somebody else has the socket too, and half-closing it would end it there
	copying             // a kernel copy from the socket is at work, and is not to be interrupted
)

// A tcpConn is a conn with all that a *net.TCPConn has.
type tcpConn struct {
	conn
	netconn.TCPOptions
	control netconn.TCPControl
}

// A unixConn is a conn with all that a *net.UnixConn has.
type unixConn struct {
	conn
	netconn.UnixOptions
	control  netconn.UnixControl
	messages netconn.Messages
}

// inLedger is a connection that is a conn or has one inside.
type inLedger interface {
	net.Conn
	self() *conn
}

var (
	_ netconn.TCP  = (*tcpConn)(nil)
	_ netconn.Unix = (*unixConn)(nil)
	_ inLedger     = (*conn)(nil)
)

func (c *conn) self() *conn { return c }

// newConn makes the wrapper of an accepted connection, which has what nc has. A guest has the methods of the connection
// inside of it.
func newConn(nc net.Conn) inLedger {
	below := nc
	if g, ok := nc.(guest); ok {
		below = g.NetConn()
	}
	switch b := below.(type) {
	case netconn.TCP:
		return &tcpConn{conn{Conn: nc}, b, b}
	case netconn.Unix:
		return &unixConn{conn{Conn: nc}, b, b, b}
	}
	return &conn{Conn: nc}
}

// mark sets a bit of marks, or clears it.
func (c *conn) mark(bit uint8, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.marks &^= bit; on {
		c.marks |= bit
	}
}

// marked reports whether a bit of marks is set.
func (c *conn) marked(bit uint8) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.marks&bit != 0
}

// hear notes that a raw connection is in use.
func (c *conn) hear() {
	if c.raw {
		c.mu.Lock()
		c.heard = time.Now()
		c.mu.Unlock()
	}
}

// wrote counts bytes.
func (c *conn) wrote(n int64) {
	c.written.Add(n)
	c.hear()
}

// CloseRead closes the side of the client. The connection stays in the ledger until its Close.
func (c *tcpConn) CloseRead() error { return c.closeRead(c.control) }

// CloseRead closes the side of the client. The connection stays in the ledger until its Close.
func (c *unixConn) CloseRead() error { return c.closeRead(c.control) }

func (c *conn) closeRead(h netconn.Halves) error {
	err := h.CloseRead()
	if err == nil {
		c.mark(deaf, true)
	}
	return err
}

// SetLinger sets what a Close does to bytes that are not sent. With zero it resets the connection, in a drain as well.
func (c *tcpConn) SetLinger(sec int) error {
	c.own()
	err := c.TCPOptions.SetLinger(sec)
	if err == nil {
		c.mark(aborts, sec == 0)
	}
	return err
}

// File returns a copy of the descriptor, of which the ledger knows nothing.
func (c *tcpConn) File() (*os.File, error) { return c.share(c.control) }

// File returns a copy of the descriptor, of which the ledger knows nothing.
func (c *unixConn) File() (*os.File, error) { return c.share(c.control) }

func (c *conn) share(d netconn.Descriptor) (*os.File, error) {
	c.own()
	f, err := d.File()
	if err == nil {
		c.mark(shared, true)
	}
	return f, err
}

// ReadFrom reads a message and the address of its sender.
func (c *unixConn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	n, err = c.message(b, func() (n int, err error) { n, addr, err = c.messages.ReadFrom(b); return n, err })
	return n, addr, err
}

// ReadFromUnix reads a message and the address of its sender.
func (c *unixConn) ReadFromUnix(b []byte) (n int, addr *net.UnixAddr, err error) {
	n, err = c.message(b, func() (n int, err error) { n, addr, err = c.messages.ReadFromUnix(b); return n, err })
	return n, addr, err
}

// ReadMsgUnix reads with what comes beside the bytes, such as credentials.
func (c *unixConn) ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error) {
	n, err = c.message(b, func() (n int, err error) {
		n, oobn, flags, addr, err = c.messages.ReadMsgUnix(b, oob)
		return n, err
	})
	return n, oobn, flags, addr, err
}

// message is receive for what is read with an address or with descriptors. What came with a guest is read first.
func (c *unixConn) message(b []byte, read func() (int, error)) (int, error) {
	c.own()
	return c.receive(len(b), func() (int, error) {
		if c.guest != nil {
			if n := c.guest.Ahead(b); n > 0 {
				return n, nil
			}
		}
		return read()
	})
}

// own makes a guest this process's alone, before something is done past the methods that tell the other process of it.
func (c *conn) own() {
	if c.guest != nil {
		c.guest.Own()
	}
}

// receive is Read with another function than that of the connection.
func (c *conn) receive(size int, read func() (int, error)) (int, error) {
	for !c.done.Load() {
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
	return 0, io.EOF
}

// WriteTo writes a message to an address.
func (c *unixConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	c.own()
	n, err := c.messages.WriteTo(b, addr)
	c.wrote(int64(n))
	return n, err
}

// WriteToUnix writes a message to an address.
func (c *unixConn) WriteToUnix(b []byte, addr *net.UnixAddr) (int, error) {
	c.own()
	n, err := c.messages.WriteToUnix(b, addr)
	c.wrote(int64(n))
	return n, err
}

// WriteMsgUnix writes with what goes beside the bytes, such as descriptors.
func (c *unixConn) WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error) {
	c.own()
	n, oobn, err = c.messages.WriteMsgUnix(b, oob, addr)
	c.wrote(int64(n))
	return n, oobn, err
}

// A rawConn is the descriptor of a connection. It has the methods of syscall.RawConn and no more: os.File copies past the
// ledger to what shows its poll.FD.
type rawConn struct {
	syscall.RawConn
	conn *conn
}

// SyscallConn gives access to the descriptor, where there is one. Bytes that are read and written by it are not counted.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok || c.gone.Load() {
		return nil, errors.ErrUnsupported
	}
	c.own()
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &rawConn{raw, c}, nil
}

// Read waits until f is done. A raw connection that is silent in a drain ends it with io.EOF.
func (r *rawConn) Read(f func(fd uintptr) bool) error {
	if !r.conn.raw {
		return r.RawConn.Read(f)
	}
	_, err := r.conn.receive(0, func() (int, error) {
		err := r.RawConn.Read(f)
		if err == nil {
			r.conn.hear()
		}
		return 0, err
	})
	return err
}

// Write waits until f is done.
func (r *rawConn) Write(f func(fd uintptr) bool) error {
	defer r.conn.hear()
	return r.RawConn.Write(f)
}

// buffers are for copies that the kernel does not do.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// through copies by a buffer, so that what is said on a connection is seen as it is said.
func through(w io.Writer, r io.Reader) (int64, error) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(w, struct{ io.Reader }{r}, buf[:])
}

// A reading is a conn as what a copy reads from, a writing as what it writes to.
type (
	reading conn
	writing conn
)

// Await waits until something can be read, and returns how many bytes: none at the end. From then to Read the drain does
// not interrupt the connection.
func (r *reading) Await(w *sockbuf.Waiter) (int, error) {
	c := (*conn)(r)
	for !c.done.Load() {
		n, err := w.Wait()
		c.mu.Lock()
		v := c.judged(nil, n, 0, err)
		if v == pass && n > 0 {
			c.marks |= copying
		}
		c.mu.Unlock()
		switch v {
		case again:
			continue
		case over:
			return 0, nil
		}
		return n, err
	}
	return 0, nil
}

// Read counts what was read after Await.
func (r *reading) Read(n int64) {
	c := (*conn)(r)
	c.read.Add(n)
	c.hear()
	c.mark(copying, false)
}

// Wrote counts what was written.
func (w *writing) Wrote(n int64) { (*conn)(w).wrote(n) }

// ReadFrom lets the kernel copy where package net does.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if c.gone.Load() {
		return 0, net.ErrClosed
	}
	whole, from := netconn.Unlimited(r)
	var in netconn.Reader = netconn.Nobody{}
	if l, ok := from.(inLedger); ok {
		in, from = (*reading)(l.self()), l.self().Conn
	}
	to, tcp := c.Conn.(*net.TCPConn)
	switch source := netconn.SourceOf(from); {
	case tcp && source == netconn.Socket:
		if n, ok, err := netconn.Splice(to, (*writing)(c), from, in, whole); ok {
			return n, err
		}
	case tcp && source == netconn.File && (c.current() != http.StateHijacked || netconn.Regular(from)):
		return netconn.SendFile(to, from, whole, (*writing)(c))
	case !tcp && !c.raw: // it may know more than is seen here
		if rf, ok := c.Conn.(io.ReaderFrom); ok {
			n, err := rf.ReadFrom(r)
			c.wrote(n)
			return n, err
		}
	}
	return through(struct{ io.Writer }{c}, r)
}

// WriteTo lets the kernel copy where package net does. Only the owner of a hijacked connection calls it: net/http reads.
func (c *conn) WriteTo(w io.Writer) (int64, error) {
	if c.gone.Load() {
		return 0, io.EOF
	}
	var out netconn.Writer = netconn.Nobody{}
	l, ours := w.(inLedger)
	to := w
	if ours {
		out, to = (*writing)(l.self()), l.self().Conn
	}
	if from, tcp := c.Conn.(*net.TCPConn); tcp {
		switch to := to.(type) {
		case *net.TCPConn, *os.File:
			if n, ok, err := netconn.Splice(to.(io.ReaderFrom), out, from, (*reading)(c), nil); ok {
				return n, err
			}
			return through(w, c)
		case *net.UnixConn: // package net copies the whole, and nothing is seen of it before the end: not for a raw connection
			if netconn.Splices && !c.raw && !(ours && l.self().raw) {
				n, err := from.WriteTo(to)
				c.read.Add(n)
				out.Wrote(n)
				return n, err
			}
		}
	}
	if _, ok := w.(io.ReaderFrom); ok && !c.raw && !ours { // it may know more than is seen here
		n, err := io.Copy(w, c.Conn)
		c.read.Add(n)
		return n, err
	}
	return through(w, c)
}
