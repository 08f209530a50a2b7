package drain

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/midair-go/midair/drain/internal/netconn"
	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// Programs get a wrapper in place of the accepted connection, because the registry has to see the Close. Programs look for
// methods of *net.TCPConn and *net.UnixConn in the wrapper. So there is a wrapper for each of the two types: tcpConn and
// unixConn. The wrapper of any other connection is a conn.

// A tcpConn is a conn with all methods of a *net.TCPConn.
type tcpConn struct {
	conn
	netconn.TCPOptions
	control netconn.TCPControl
}

// A unixConn is a conn with all methods of a *net.UnixConn.
type unixConn struct {
	conn
	netconn.UnixOptions
	control  netconn.UnixControl
	messages netconn.Messages
}

// An inRegistry is a connection that is a conn or embeds a conn.
type inRegistry interface {
	net.Conn
	self() *conn
}

var (
	_ netconn.TCP  = (*tcpConn)(nil)
	_ netconn.Unix = (*unixConn)(nil)
)

// wrap makes the wrapper of the accepted connection nc. The wrapper has the methods that nc has. If nc is an adopted
// connection, the wrapper has the methods of the connection of package net inside nc.
func wrap(nc net.Conn) inRegistry {
	below := nc
	if a, ok := nc.(adoptedConn); ok {
		below = a.NetConn()
	}
	switch b := below.(type) {
	case netconn.TCP:
		return &tcpConn{conn{Conn: nc}, b, b}
	case netconn.Unix:
		return &unixConn{conn{Conn: nc}, b, b, b}
	}
	return &conn{Conn: nc}
}

// CloseRead shuts down the reading side of the connection. The connection stays in the registry until its Close.
func (c *tcpConn) CloseRead() error { return closeRead(&c.conn, c.control) }

// CloseRead shuts down the reading side of the connection. The connection stays in the registry until its Close.
func (c *unixConn) CloseRead() error { return closeRead(&c.conn, c.control) }

// closeRead shuts down the reading side of the connection, and notes the call in c.marks.
func closeRead(c *conn, h netconn.Halves) error {
	err := h.CloseRead()
	if err == nil {
		c.set(&c.marks.deaf, true)
	}
	return err
}

// SetLinger sets how a Close treats unsent bytes. After SetLinger(0) a Close resets the connection, in a drain as well.
func (c *tcpConn) SetLinger(sec int) error {
	c.own()
	err := c.TCPOptions.SetLinger(sec)
	if err == nil {
		c.set(&c.marks.aborts, sec == 0)
	}
	return err
}

// File returns a copy of the descriptor. The registry does not see what the program does with the copy.
func (c *tcpConn) File() (*os.File, error) { return share(&c.conn, c.control) }

// File returns a copy of the descriptor. The registry does not see what the program does with the copy.
func (c *unixConn) File() (*os.File, error) { return share(&c.conn, c.control) }

// share copies a descriptor, and notes that the socket has another owner.
func share(c *conn, d netconn.Descriptor) (*os.File, error) {
	c.own()
	f, err := d.File()
	if err == nil {
		c.set(&c.marks.shared, true)
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

// ReadMsgUnix reads bytes into b and ancillary data, such as credentials, into oob.
func (c *unixConn) ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error) {
	n, err = c.message(b, func() (n int, err error) {
		n, oobn, flags, addr, err = c.messages.ReadMsgUnix(b, oob)
		return n, err
	})
	return n, oobn, flags, addr, err
}

// message reads a message: it calls receive with the function read. An adopted connection may come with bytes that the other
// process had read. As long as such bytes are left, message returns them and does not call read.
func (c *unixConn) message(b []byte, read func() (int, error)) (int, error) {
	c.own()
	return c.receive(len(b), func() (int, error) {
		if c.adopted != nil {
			if n := c.adopted.Ahead(b); n > 0 {
				return n, nil
			}
		}
		return read()
	})
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

// WriteMsgUnix writes the bytes b and the ancillary data oob, such as descriptors.
func (c *unixConn) WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error) {
	c.own()
	n, oobn, err = c.messages.WriteMsgUnix(b, oob, addr)
	c.wrote(int64(n))
	return n, oobn, err
}

// A rawConn gives access to the descriptor of a connection. It has no methods but those of syscall.RawConn: if it had the
// method PollFD too, os.File would use PollFD to copy directly, and the wrapper would not see the bytes.
type rawConn struct {
	syscall.RawConn
	conn *conn
}

// Read calls f until f returns true. If a raw connection ends in a drain because it is silent, Read returns io.EOF.
func (r *rawConn) Read(f func(fd uintptr) bool) error {
	if !r.conn.kind.raw() {
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

// Write calls f until f returns true.
func (r *rawConn) Write(f func(fd uintptr) bool) error {
	defer r.conn.hear()
	return r.RawConn.Write(f)
}

// buffers are the buffers of through.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// through copies from r to w through a buffer, not in the kernel, so that a conn sees the bytes as they pass.
func through(w io.Writer, r io.Reader) (int64, error) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(w, struct{ io.Reader }{r}, buf[:])
}

// A reading is a conn from which the kernel copies. A writing is a conn to which the kernel copies.
type (
	reading conn
	writing conn
)

// Await waits until something can be read, and returns how many bytes can be read. It returns 0 if the client has closed its
// side, or if the connection must not be read any more. If Await returns more than 0, the drain does not interrupt the
// connection until Read is called.
func (r *reading) Await(w *sockbuf.Waiter) (int, error) {
	c := (*conn)(r)
	for c.stop().Reads() {
		n, err := w.Wait()
		c.mu.Lock()
		v := c.judged(nil, n, 0, err)
		if v == pass && n > 0 {
			c.copying = true
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

// Read notes that n bytes were copied from the connection after Await.
func (r *reading) Read(n int64) {
	c := (*conn)(r)
	c.read.Add(n)
	c.hear()
	c.set(&c.copying, false)
}

// Wrote notes that n bytes were copied to the connection.
func (w *writing) Wrote(n int64) { (*conn)(w).wrote(n) }
