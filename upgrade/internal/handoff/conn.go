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

// Lowest looks through wrappers for the connection that the listener gave. It is nil without such a connection, and with TLS in
// between, as the keys cannot be handed over.
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

// The states of a connection that was passed to a candidate, in the connection's slot.
const (
	slotFree    uint32 = iota
	slotIdle           // nobody has read from it or written to it since it was passed, or since it became idle
	slotActive         // the candidate has
	slotClosed         // the candidate has closed it
	slotBack           // the candidate sends it back
	slotRefused        // the candidate could not take it, or has put it back without a word
	slotOwned          // it is the candidate's alone, which would not say that it is closed
)

// idler is the seam to package drain, which looks for these methods in a connection (its interface guest) and imports nothing
// of this package. With these methods the process that passed a connection on can take the connection back if this process
// dies.
type idler interface {
	// SetIdle is called when the server waits for a next request of which it has read nothing.
	SetIdle()
	// WasIdle reports whether the connection came between two requests.
	WasIdle() bool
	// Kept reports whether the process that passed the connection on has a descriptor of it too.
	Kept() bool
	// Own makes the other process close its descriptor soon: what a Close does here is what it does alone.
	Own()
	// Ahead is Read of what is to be read first, and 0 when there is nothing of that left.
	Ahead(p []byte) int
	// NetConn returns the connection of package net below.
	NetConn() net.Conn
}

// Conn is a connection that another generation has accepted.
type Conn struct {
	net.Conn // a *net.TCPConn or *net.UnixConn
	raw      syscall.Conn
	about    wire.ConnBody
	ahead    []byte // what is left of about.Ahead
	sharing  *Sharing
	slot     *atomic.Uint32 // nil: nobody could take it back
	watched  atomic.Bool    // idle in its slot: it is marked before anything is read
	left     atomic.Bool    // closed or sent back: the slot is not its own any more
}

var (
	_ idler          = (*Conn)(nil)
	_ listener.Moved = (*Conn)(nil)
	_ syscall.Conn   = (*Conn)(nil)
	_ io.ReaderFrom  = (*Conn)(nil)
	_ io.WriterTo    = (*Conn)(nil)
)

// Sharing is the state that two processes share while one passes connections to the other, until the passing process ends. From
// the commit on the slots are not read, and writing them does no harm. A nil Sharing has no other process.
type Sharing struct {
	slots *Slots
	over  atomic.Bool
}

// NewSharing begins to share with the process whose slots are in the file, which the caller closes.
func NewSharing(file *os.File) (*Sharing, error) {
	s, err := mapSlots(file)
	if err != nil {
		return nil, err
	}
	return &Sharing{slots: s}, nil
}

// End notes that the other process has ended.
func (s *Sharing) End() {
	if s != nil {
		s.over.Store(true)
	}
}

// Refuse lets the old process take a connection back, and reports whether the old process has kept a descriptor.
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

// GiveMoved hands a connection of another generation to the listener of the same name here: the next Accept returns the
// connection. The file stays the caller's. The error is a missing listener, or a listener that does not accept.
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

// NewConn makes a connection of its descriptor. The file stays the caller's.
func NewConn(file *os.File, about wire.ConnBody, s *Sharing) (net.Conn, error) {
	c, err := sys.FileConn(file)
	if err != nil {
		return nil, err
	}
	remember(c, about)
	raw, ok := c.(syscall.Conn)
	if !ok {
		c.Close()
		return nil, os.ErrInvalid
	}
	m := &Conn{Conn: c, raw: raw, about: about, ahead: about.Ahead}
	if about.Slot > 0 && s != nil {
		m.sharing, m.slot = s, s.slots.at(about.Slot)
		m.watched.Store(m.slot != nil)
	}
	return m, nil
}

// Kept reports whether the old process has a descriptor of the connection too.
func (c *Conn) Kept() bool { return c.slot != nil && !c.left.Load() && !c.sharing.over.Load() }

// Read marks the connection as active, and reads then.
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

// Ahead reads the bytes that came with the connection.
func (c *Conn) Ahead(p []byte) int {
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n
}

// await waits until something can be read, and marks the connection.
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

// Write marks the connection as active too: a client with a part of an answer must not be served anew.
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

// SetIdle marks the connection as idle: the server waits for a next request, and has read nothing so far.
func (c *Conn) SetIdle() {
	if c.Kept() && !c.watched.Load() && len(c.about.Ahead) == 0 { // what was ahead was read: it must not be again
		c.slot.Store(slotIdle)
		c.watched.Store(true)
	}
}

// WasIdle reports whether the connection came between two requests.
func (c *Conn) WasIdle() bool { return c.about.Idle }

// Close closes the connection for the client too, although the old process still has a descriptor.
func (c *Conn) Close() error {
	if c.leave() && c.slot.Load() != slotBack {
		sys.Shutdown(c.raw)
		c.slot.Store(slotClosed)
	}
	return c.Conn.Close()
}

// Abandon closes this process's descriptor of a connection that the program has not taken. The old process serves the client,
// if the old process has a descriptor too.
func (c *Conn) Abandon() {
	if c.leave() {
		c.slot.Store(slotRefused)
	}
	c.Conn.Close()
}

// Own makes the connection this process's alone.
func (c *Conn) Own() {
	if c.leave() {
		c.slot.Store(slotOwned)
	}
}

// Plain returns the connection below, which is this process's alone then; nil if something is to be read first.
func (c *Conn) Plain() net.Conn {
	if len(c.ahead) > 0 {
		return nil
	}
	c.Own()
	return c.Conn
}

// leave gives the slot up, and reports whether the slot was this connection's until now: when the old process has read the last
// word of a connection, it uses the slot for another connection.
func (c *Conn) leave() bool { return c.Kept() && !c.left.Swap(true) }

// Origin names the listener that has accepted the connection.
func (c *Conn) Origin() (network, addr string) { return c.about.Network, c.about.Addr }

// CloseWrite ends the direction to the client, and marks the connection like a Write.
func (c *Conn) CloseWrite() error {
	c.touch()
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return os.ErrInvalid
	}
	return w.CloseWrite()
}

// SyscallConn gives access to the descriptor. The old process does not learn of a read through the descriptor.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// ReadFrom lets the kernel copy where possible.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	c.touch()
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// WriteTo lets the kernel copy where possible.
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

// Bare looks through the wrapper of this package.
func Bare(c net.Conn) net.Conn {
	if m, ok := c.(*Conn); ok {
		return m.Conn
	}
	return c
}
