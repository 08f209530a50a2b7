package drain

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/midair-go/midair/drain/internal/life"
	"github.com/midair-go/midair/drain/internal/netconn"
)

// A conn stands between an accepted connection and net/http, below TLS.
//
// Package life says what can happen to a conn, and what follows. Whether an idle connection may be closed is decided in
// its Read (reader.go), and how a connection is closed in close.go.
type conn struct {
	net.Conn
	course   *course
	registry *registry
	kind     kind          // transport, name and http2 change under mu
	adopted  adoptedConn   // Conn, if it came from another process
	stopped  atomic.Uint32 // the last state in which a Read does not read, for Read and Write without mu; Fresh before

	read, written atomic.Int64

	mu      sync.Mutex
	state   life.State
	reader  reader
	mover   mover
	view    view
	marks   marks
	copying bool                    // a kernel copy from the socket is at work, and is not to be interrupted
	cancel  context.CancelCauseFunc // of the contexts of all requests
	stream  closer                  // what closes a WebSocket
	h2      *h2conn                 // what ends an HTTP/2 connection, in place of the reader
}

// marks are what the program did to the socket. All are guarded by mu.
type marks struct {
	deaf   bool // CloseRead was called: an end that is read is not the client's
	aborts bool // SetLinger(0) was called: a Close is to reset
	shared bool // File was called: half-closing the socket would end it for another owner, too
}

var (
	_ io.ReaderFrom = (*conn)(nil)
	_ io.WriterTo   = (*conn)(nil)
	_ syscall.Conn  = (*conn)(nil)
	_ inRegistry    = (*conn)(nil)
)

// track registers an accepted connection, and returns the connection for the accept loop of its server. The name of the
// protocol is empty for net/http.
func track(course *course, registry *registry, nc net.Conn, by server, name string) net.Conn {
	wrapper := wrap(nc)
	c := wrapper.self()
	now := time.Now()
	c.course, c.registry, c.view.since, c.reader.heard = course, registry, now, now
	outside, isTLS := nc.(*tls.Conn)
	stater, secure := nc.(interface{ ConnectionState() tls.ConnectionState })
	c.kind.server, c.kind.name = by, name
	_, c.kind.socket = nc.(syscall.Conn)
	c.adopted, _ = nc.(adoptedConn)
	switch by {
	case handlers:
		c.state = life.Raw
		c.view.reported = http.StateHijacked
	case foreign:
		c.state = life.Hijacked
		c.view.reported = http.StateHijacked
	default:
		if c.adopted != nil && c.adopted.WasIdle() {
			c.reader.first = idleDeadline{waiting: true, since: now, idle: course.firstIdle}
		}
		if isTLS { // net/http looks for exactly this type, so it cannot be wrapped
			c.kind.transport = tlsOutside
			registry.add(c, true, outside)
			return nc
		}
	}
	if secure {
		c.kind.transport = tlsInside
	}
	registry.add(c, by == netHTTP, nil)
	if secure {
		return &secureConn{conn: c, stater: stater}
	}
	return wrapper
}

// A secureConn is a conn over another TLS stack than crypto/tls. net/http asks a secureConn for the state of TLS.
type secureConn struct {
	*conn
	stater interface{ ConnectionState() tls.ConnectionState }
}

// ConnectionState tells net/http what Request.TLS is.
func (c *secureConn) ConnectionState() tls.ConnectionState { return c.stater.ConnectionState() }

func (c *conn) self() *conn { return c }

// stop returns the last state in which a Read does not read; Fresh as long as a Read reads. No lock is needed.
func (c *conn) stop() life.State { return life.State(c.stopped.Load()) }

// reported returns what net/http has reported last.
func (c *conn) reported() http.ConnState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.reported
}

// quietSince returns since when the connection is idle; zero if it is not.
func (c *conn) quietSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view.reported != http.StateIdle {
		return time.Time{}
	}
	return c.view.since
}

// entries appends an Entry for each request of the connection, or one for the connection if there is none.
func (c *conn) entries(all []Entry) []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := Entry{Protocol: c.kind.show(c.view.reported), Read: c.read.Load(), Written: c.written.Load()}
	if c.view.reported == http.StateClosed || c.state.Lingers() {
		e.State = "closing"
	}
	if a := c.Conn.RemoteAddr(); a != nil {
		e.Remote = a.String()
	}
	return c.view.entries(all, e)
}

// begin notes a request.
func (c *conn) begin(r *http.Request) *request {
	q := &c.view.only
	since := time.Time{}
	if r.ProtoMajor > 1 {
		q = requests.Get().(*request)
		since = time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.ProtoMajor <= 1 {
		since = c.view.since
	}
	c.view.add(q, r.Method, r.URL.Path, since)
	return q
}

// end notes that a request was answered.
func (c *conn) end(q *request) {
	c.mu.Lock()
	c.view.remove(q)
	c.mu.Unlock()
	if q != &c.view.only {
		q.method, q.path = "", ""
		requests.Put(q)
	}
}

// framed reports whether an h2conn announces the end of the connection of a request.
func (c *conn) framed(r *http.Request) bool {
	if r.ProtoMajor < 2 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.h2 != nil
}

// markTLS notes that net/http has a *tls.Conn above the wrapper.
func (c *conn) markTLS() {
	c.mu.Lock()
	if c.kind.transport == plaintext {
		c.kind.transport = tlsAbove
	}
	c.mu.Unlock()
}

// learn asks TLS once which protocol was agreed on.
func (c *conn) learn(t *tls.Conn) {
	c.mu.Lock()
	known := c.view.method != "" || c.kind.http2
	c.mu.Unlock()
	if !known && t.ConnectionState().NegotiatedProtocol == "h2" {
		c.mu.Lock()
		c.kind.http2 = true
		c.mu.Unlock()
	}
}

// expect says before a hijack which protocol follows; none if the hijack has failed.
func (c *conn) expect(name string) {
	c.mu.Lock()
	c.kind.name = name
	c.mu.Unlock()
}

// set sets a field of the connection.
func (c *conn) set(field *bool, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*field = on
}

// isSet returns a field of the connection.
func (c *conn) isSet(field *bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *field
}

// hear notes that a raw connection is in use.
func (c *conn) hear() {
	if c.kind.raw() {
		c.mu.Lock()
		c.reader.heard = time.Now()
		c.mu.Unlock()
	}
}

// wrote counts bytes.
func (c *conn) wrote(n int64) {
	c.written.Add(n)
	c.hear()
}

// own closes the descriptor of an adopted connection in the other process, before something is done past the methods
// that tell the other process about the connection.
func (c *conn) own() {
	if c.adopted != nil {
		c.adopted.Own()
	}
}

// NetConn returns the connection of the listener. The registry does not see what a program does with that connection.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Write writes, unless the connection has moved.
func (c *conn) Write(p []byte) (int, error) {
	if c.stop() == life.Moved {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Write(p)
	c.wrote(int64(n))
	return n, err
}

// SetReadDeadline sets the deadline, or keeps the deadline while a drain interrupts the Read.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.state.Open() {
		return net.ErrClosed
	}
	c.step(life.Deadline)
	return c.reader.deadline.set(c.Conn, c.reader.first.deadline(t))
}

// SetWriteDeadline sets the deadline, unless the connection has moved.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.stop() == life.Moved {
		return net.ErrClosed
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SyscallConn gives access to the descriptor, if there is a descriptor. Bytes that a program reads and writes there are
// not counted.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok || c.stop() == life.Moved {
		return nil, errors.ErrUnsupported
	}
	c.own()
	of, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &rawConn{of, c}, nil
}

// ReadFrom lets the kernel copy where package net does.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if c.stop() == life.Moved {
		return 0, net.ErrClosed
	}
	whole, from := netconn.Unlimited(r)
	var in netconn.Reader = netconn.Uncounted{}
	if l, ok := from.(inRegistry); ok {
		in, from = (*reading)(l.self()), l.self().Conn
	}
	to, tcp := c.Conn.(*net.TCPConn)
	switch source := netconn.SourceOf(from); {
	case tcp && source == netconn.Socket:
		if n, ok, err := netconn.Splice(to, (*writing)(c), from, in, whole); ok {
			return n, err
		}
	case tcp && source == netconn.File && (c.reported() != http.StateHijacked || netconn.Regular(from)):
		return netconn.SendFile(to, from, whole, (*writing)(c))
	case !tcp && !c.kind.raw(): // it may know more than is seen here
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
	if c.stop() == life.Moved {
		return 0, io.EOF
	}
	var out netconn.Writer = netconn.Uncounted{}
	l, ours := w.(inRegistry)
	to := w
	if ours {
		out, to = (*writing)(l.self()), l.self().Conn
	}
	followed := c.kind.raw() || ours && l.self().kind.raw()
	if from, tcp := c.Conn.(*net.TCPConn); tcp {
		switch to := to.(type) {
		case *net.TCPConn, *os.File:
			if n, ok, err := netconn.Splice(to.(io.ReaderFrom), out, from, (*reading)(c), nil); ok {
				return n, err
			}
			return through(w, c)
		case *net.UnixConn: // package net copies the whole, and nothing is seen of it before the end: not for a raw connection
			if netconn.Splices && !followed {
				n, err := from.WriteTo(to)
				c.read.Add(n)
				out.Wrote(n)
				return n, err
			}
		}
	}
	if _, ok := w.(io.ReaderFrom); ok && !c.kind.raw() && !ours { // it may know more than is seen here
		n, err := io.Copy(w, c.Conn)
		c.read.Add(n)
		return n, err
	}
	return through(w, c)
}

func (c *conn) notice() *Notice { return &c.course.told }
