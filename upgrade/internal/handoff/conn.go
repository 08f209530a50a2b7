package handoff

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Lowest unwraps c by calling NetConn, until it finds the connection that the listener returned. It returns nil if it finds no
// such connection. It also returns nil if TLS wraps the connection, because the keys of TLS cannot be passed to another
// process.
func Lowest(c net.Conn) net.Conn {
	for {
		switch w := c.(type) {
		case *Conn, *net.TCPConn, *net.UnixConn:
			return c
		case *tls.Conn:
			return nil
		case interface{ NetConn() net.Conn }:
			c = w.NetConn()
		default:
			return nil
		}
	}
}

// The states of a connection that the old process has passed to the candidate. The state is in the slot of the connection, in
// memory that both processes share.
const (
	slotFree    uint32 = iota
	slotIdle           // no read or write of the candidate since the connection came, or since the last SetIdle
	slotActive         // the candidate has read from the connection or written to it
	slotClosed         // the candidate has closed the connection
	slotBack           // the candidate is sending the connection back to the old process
	slotRefused        // the candidate does not serve the connection: the old process is to use its own descriptor
	slotOwned          // only the candidate uses the connection from now on: the old process is to close its descriptor
)

// idler has the same methods as the interface adoptedConn of package drain. By these methods package drain recognizes a
// connection from another process, without an import of this package. SetIdle and Own write the state of the connection into
// its slot, so that the other process can take the connection back if this process dies.
type idler interface {
	// SetIdle is called when the server waits for the next request, and has read nothing of that request.
	SetIdle()
	// WasIdle reports whether the connection was between two requests when it was passed.
	WasIdle() bool
	// Kept reports whether the process that has passed the connection has a descriptor of the connection too.
	Kept() bool
	// Own makes the other process close its descriptor soon. When only this process has a descriptor, closing it ends the
	// connection.
	Own()
	// Ahead reads the bytes that came with the connection into p. These bytes precede the bytes that can be read from the
	// socket. Ahead returns 0 when none of these bytes are left.
	Ahead(p []byte) int
	// NetConn returns the underlying connection of package net.
	NetConn() net.Conn
}

// Conn is a connection that another generation has accepted and passed to this process.
type Conn struct {
	net.Conn // a *net.TCPConn or *net.UnixConn
	raw      syscall.Conn
	about    wire.ConnBody
	ahead    []byte // the bytes of about.Ahead that were not read yet
	sharing  *Sharing
	slot     *atomic.Uint32 // the connection's word in Slots; nil: the old process cannot take the connection back
	watched  atomic.Bool    // true while *slot is slotIdle: a read or a write must first set slotActive
	left     atomic.Bool    // true if the slot was given up, and may belong to another connection by now
	step     uint32         // how many steps to a lower weight there were when the connection came
}

var (
	_ idler          = (*Conn)(nil)
	_ listener.Moved = (*Conn)(nil)
	_ syscall.Conn   = (*Conn)(nil)
	_ io.ReaderFrom  = (*Conn)(nil)
	_ io.WriterTo    = (*Conn)(nil)
)

// Sharing is the candidate's access to the Slots of the old process. A nil Sharing means that no old process has shared Slots.
// The old process reads the slots until its Dispatcher has called Settle. Later writes of the candidate do no harm. When the
// old process has ended, the Sharing is over.
type Sharing struct {
	slots *Slots
	over  atomic.Bool
	step  atomic.Uint32 // how many steps to a lower weight there were
}

// NewSharing maps the Slots of another process from their file. The caller closes the file.
func NewSharing(file *os.File) (*Sharing, error) {
	s, err := mapSlots(file)
	if err != nil {
		return nil, err
	}
	return &Sharing{slots: s}, nil
}

// End notes that the other process has ended. The present turn ends too.
func (s *Sharing) End() {
	if s != nil {
		s.over.Store(true)
		s.slots.turn().Store(0)
	}
}

// nextStep begins a step to a lower weight, and returns its number.
func (s *Sharing) nextStep() uint32 {
	if s == nil {
		return 1
	}
	return s.step.Add(1)
}

// Refuse makes the old process serve the connection of a slot: the old process then uses the descriptor that it has kept. If
// there is no such slot, the old process has kept no descriptor, and Refuse returns false.
func (s *Sharing) Refuse(slot int) bool {
	if s == nil {
		return false
	}
	w := s.slots.at(slot)
	if w != nil {
		w.Store(slotRefused)
	}
	return w != nil
}

// GiveMoved gives a connection of another generation to the listener of the same name in this process. A later Accept of this
// listener returns the connection. sh is nil if no slot is shared. The caller closes the file. GiveMoved fails if there is no
// such listener, or if the listener is closed.
func GiveMoved(set *listener.Set, about wire.ConnBody, file *os.File, sh *Sharing) error {
	r, err := set.Find(about.Network, about.Addr)
	if err != nil {
		return err
	}
	c, err := NewConn(file, about, sh)
	if err != nil {
		return err
	}
	return r.Accept(c)
}

// NewConn makes a connection from its descriptor in file. The caller closes the file.
func NewConn(file *os.File, about wire.ConnBody, s *Sharing) (net.Conn, error) {
	c, err := sys.FileConn(file)
	if err != nil {
		return nil, err
	}
	remember(c, about, s)
	raw, ok := c.(syscall.Conn)
	if !ok {
		c.Close()
		return nil, os.ErrInvalid
	}
	m := &Conn{Conn: c, raw: raw, about: about, ahead: about.Ahead}
	if s != nil {
		m.step = s.step.Load()
	}
	if about.Slot > 0 && s != nil {
		m.sharing, m.slot = s, s.slots.at(about.Slot)
		m.watched.Store(m.slot != nil)
	}
	return m, nil
}

// Kept reports whether the old process has a descriptor of the connection too.
func (c *Conn) Kept() bool { return c.slot != nil && !c.left.Load() && !c.sharing.over.Load() }

// Read first returns the bytes that came with the connection. After these bytes it marks the connection as active and reads
// from the socket.
func (c *Conn) Read(p []byte) (int, error) {
	if n := c.Ahead(p); n > 0 || len(c.ahead) > 0 {
		return n, nil
	}
	if c.watched.Load() {
		if err := c.await(); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

// Ahead reads the bytes that came with the connection into p. It returns 0 when none of these bytes are left.
func (c *Conn) Ahead(p []byte) int {
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n
}

// await waits until the socket can be read, and marks the connection as active before the caller reads. If the old process
// cannot take the connection back, await returns at once.
func (c *Conn) await() error {
	if !c.Kept() {
		c.watched.Store(false)
		return nil
	}
	raw, err := c.raw.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		if !sys.Readable(fd) {
			return false
		}
		c.touch()
		return true
	})
}

// Write marks the connection as active before it writes: if a client has received a part of an answer, the old process must not
// serve the request again.
func (c *Conn) Write(p []byte) (int, error) {
	if c.watched.Load() {
		c.touch()
	}
	return c.Conn.Write(p)
}

func (c *Conn) touch() {
	if c.watched.Swap(false) && c.Kept() {
		c.slot.Store(slotActive)
	}
}

// SetIdle marks the connection as idle. It is called when the server waits for the next request, and has read nothing of that
// request.
func (c *Conn) SetIdle() {
	// A connection that came with bytes never becomes idle: the old process would read the same bytes a second time.
	if c.Kept() && !c.watched.Load() && len(c.about.Ahead) == 0 {
		c.slot.Store(slotIdle)
		c.watched.Store(true)
	}
}

// WasIdle reports whether the connection was between two requests when it was passed.
func (c *Conn) WasIdle() bool { return c.about.Idle }

// Close ends the connection for the client, even if the old process still has a descriptor.
func (c *Conn) Close() error {
	if c.leave() && c.slot.Load() != slotBack {
		sys.Shutdown(c.raw)
		c.slot.Store(slotClosed)
	}
	return c.Conn.Close()
}

// Abandon closes this process's descriptor. It is called if the program has not taken the connection. If the old process has a
// descriptor too, the old process serves the client.
func (c *Conn) Abandon() {
	if c.leave() {
		c.slot.Store(slotRefused)
	}
	c.Conn.Close()
}

// Own makes the old process close its descriptor, so that only this process has a descriptor.
func (c *Conn) Own() {
	if c.leave() {
		c.slot.Store(slotOwned)
	}
}

// Plain calls Own, and returns the underlying connection of package net. If bytes that came with the connection are still
// unread, Plain returns nil and changes nothing.
func (c *Conn) Plain() net.Conn {
	if len(c.ahead) > 0 {
		return nil
	}
	c.Own()
	return c.Conn
}

// leave gives up the slot, and reports whether the slot belonged to this connection until now. If so, the caller must write the
// last state of the connection into the slot. When the old process has read this state, it may use the slot for another
// connection.
func (c *Conn) leave() bool { return c.Kept() && !c.left.Swap(true) }

// Origin returns the name of the listener that has accepted the connection.
func (c *Conn) Origin() (network, addr string) { return c.about.Network, c.about.Addr }

// CloseWrite ends the direction to the client. It first marks the connection as active, as Write does.
func (c *Conn) CloseWrite() error {
	c.touch()
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return os.ErrInvalid
	}
	return w.CloseWrite()
}

// SyscallConn gives access to the descriptor. Reads and writes through the descriptor do not mark the connection as active.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }

// NetConn returns the underlying connection of package net.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// ReadFrom writes the content of r to the connection. The kernel copies the bytes where possible.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	c.touch()
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// WriteTo writes to w the bytes that it reads from the connection. The kernel copies the bytes where possible.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	if len(c.ahead) > 0 {
		first, err := w.Write(c.ahead)
		if c.ahead, n = c.ahead[first:], int64(first); err != nil {
			return n, err
		}
	}
	c.touch()
	var rest int64
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		rest, err = tcp.WriteTo(w)
	} else {
		rest, err = io.Copy(w, struct{ io.Reader }{c.Conn})
	}
	return n + rest, err
}

// Bare returns the connection of package net in c, if c is a *Conn. Otherwise it returns c.
func Bare(c net.Conn) net.Conn {
	if m, ok := c.(*Conn); ok {
		return m.Conn
	}
	return c
}
