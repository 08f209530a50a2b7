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

// A conn is the wrapper of an accepted connection: net/http, or its TLS, reads and writes through the conn.
//
// The table of package life has the events of a conn and their consequences. The Read of a conn decides whether an idle
// connection may be closed (reader.go). How a connection is closed is in close.go.
type conn struct {
	net.Conn
	course   *course
	registry *registry
	kind     kind          // mu guards its fields transport, name and http2; the other fields never change
	adopted  adoptedConn   // the same as Conn, if the connection came from another process; otherwise nil
	stopped  atomic.Uint32 // the last state for which State.Reads is false; Fresh if there was none; no lock is needed
	steady   atomic.Bool   // the result of inRequest after the last step; no lock is needed

	read, written atomic.Int64

	mu      sync.Mutex
	state   life.State
	reader  reader
	mover   mover
	view    view
	marks   marks
	copying bool                    // the kernel copies bytes from the socket: a drain must not interrupt the copy
	cancel  context.CancelCauseFunc // cancels the contexts of all requests of the connection
	stream  closer                  // closes the WebSocket of the connection; nil if there is no WebSocket
	h2      *h2conn                 // if not nil, ends the HTTP/2 connection, and the reader does not
}

// marks are calls of the program that change how a drain may close the socket. The mu of the conn guards all marks.
type marks struct {
	deaf   bool // CloseRead was called: a Read that returns io.EOF does not mean that the client has closed
	aborts bool // SetLinger(0) was called: Close must reset the connection
	shared bool // File was called: the socket has another owner, and a half close would end the connection for that owner too
}

var (
	_ io.ReaderFrom = (*conn)(nil)
	_ io.WriterTo   = (*conn)(nil)
	_ syscall.Conn  = (*conn)(nil)
	_ inRegistry    = (*conn)(nil)
)

// track registers an accepted connection, and returns the connection that the accept loop gets. owner is the kind of server
// that serves the connection. name is the name of the protocol, empty for net/http.
func track(course *course, registry *registry, nc net.Conn, owner server, name string) net.Conn {
	wrapper := wrap(nc)
	c := wrapper.self()
	now := instant()
	c.course, c.registry, c.view.since, c.reader.heard = course, registry, now, now
	outside, isTLS := nc.(*tls.Conn)
	stater, secure := nc.(interface{ ConnectionState() tls.ConnectionState })
	c.kind.server, c.kind.name = owner, name
	_, c.kind.socket = nc.(syscall.Conn)
	c.adopted, _ = nc.(adoptedConn)
	switch owner {
	case handlers:
		c.state = life.Raw
		c.view.reported = http.StateHijacked
	case foreign:
		c.state = life.Hijacked
		c.view.reported = http.StateHijacked
	default:
		if c.adopted != nil && c.adopted.WasIdle() {
			c.reader.first = idleDeadline{waiting: true, since: now.time(), idle: course.firstIdle}
		}
		if isTLS { // net/http has to see the *tls.Conn itself, so there is no wrapper
			c.kind.transport = tlsOutside
			registry.add(c, true, outside)
			return nc
		}
	}
	if secure {
		c.kind.transport = tlsInside
	}
	registry.add(c, owner == netHTTP, nil)
	if c.adopted != nil && course.offered.Load() {
		c.propose()
	}
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

// ConnectionState returns the state of TLS. net/http uses it as Request.TLS.
func (c *secureConn) ConnectionState() tls.ConnectionState { return c.stater.ConnectionState() }

func (c *conn) self() *conn { return c }

// stop returns the last state for which State.Reads is false, when Read must not read, or Fresh. No lock is needed.
func (c *conn) stop() life.State { return life.State(c.stopped.Load()) }

// reported returns the state that net/http has reported last.
func (c *conn) reported() http.ConnState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view.reported
}

// shown returns the state that Status and Entries show: StateClosed if the connection has sent its last answer, and otherwise
// the state that net/http has reported last. The caller holds mu.
func (c *conn) shown() http.ConnState {
	if c.state.Lingers() {
		return http.StateClosed
	}
	return c.view.reported
}

// counted returns the state in which Status counts the connection.
func (c *conn) counted() http.ConnState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown()
}

// quietSince returns the time at which the connection became idle. It returns the zero time if the connection is not idle.
func (c *conn) quietSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view.reported != http.StateIdle {
		return time.Time{}
	}
	return c.view.since.time()
}

// remote returns the address of the client. The RemoteAddr of some connections waits for the first bytes of the client: those
// bytes have the address if a proxy has accepted the connection. So remote must not be called while a lock is held.
func (c *conn) remote() string {
	if a := c.Conn.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// entries appends an Entry for each request of the connection. If there is no request, or if the connection is hijacked,
// entries appends a single Entry for the connection. remote is the address of the client.
func (c *conn) entries(all []Entry, remote string) []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := Entry{Protocol: c.kind.show(c.view.reported), Remote: remote, Read: c.read.Load(), Written: c.written.Load()}
	if c.shown() == http.StateClosed {
		e.State = "closing"
	}
	return c.view.entries(all, e)
}

// begin notes that the handler of a request begins. The result is for the method end.
func (c *conn) begin(r *http.Request) *request {
	q := newRequest(r)
	c.mu.Lock()
	c.view.add(q, r.Method, r.URL.Path)
	c.mu.Unlock()
	return q
}

// end notes that the handler of a request has returned.
func (c *conn) end(q *request) {
	if q == nil {
		return
	}
	c.mu.Lock()
	c.view.remove(q)
	c.mu.Unlock()
	q.free()
}

// answer notes that the answer to a request is the event stream e; nil: the stream has ended.
func (c *conn) answer(q *request, e *eventStream) {
	c.mu.Lock()
	c.view.answer(q, e)
	c.mu.Unlock()
}

// framed reports whether r is a request of HTTP/2 whose connection has an h2conn, which announces the end by GOAWAY.
func (c *conn) framed(r *http.Request) bool {
	if r.ProtoMajor < 2 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.h2 != nil
}

// markTLS notes that net/http has put a *tls.Conn around the wrapper.
func (c *conn) markTLS() {
	c.mu.Lock()
	if c.kind.transport == plaintext {
		c.kind.transport = tlsAbove
	}
	c.mu.Unlock()
}

// learn notes whether client and server have agreed on HTTP/2 in the TLS handshake. After the first request, learn does
// nothing.
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

// expect notes the name of the protocol that a hijack is to switch to. After a failed hijack it is called with "".
func (c *conn) expect(name string) {
	c.mu.Lock()
	c.kind.name = name
	c.mu.Unlock()
}

// set sets a field of the connection under the lock.
func (c *conn) set(field *bool, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*field = on
}

// isSet returns the value of a field of the connection, read under the lock.
func (c *conn) isSet(field *bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *field
}

// hear notes that a raw connection was used just now, so that its IdleGrace begins anew.
func (c *conn) hear() {
	if c.kind.raw() {
		c.mu.Lock()
		c.reader.heard = instant()
		c.mu.Unlock()
	}
}

// wrote adds n to the number of written bytes.
func (c *conn) wrote(n int64) {
	c.written.Add(n)
	c.hear()
}

// own makes the other process close its descriptor of an adopted connection. A method calls own before it uses the connection
// in a way that the other process does not notice, for example through the descriptor. If the other process kept its
// descriptor, it could take the connection back although the connection is in use.
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

// SetWriteDeadline sets the deadline, unless the connection has moved.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.stop() == life.Moved {
		return net.ErrClosed
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline calls SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SyscallConn gives access to the descriptor of the connection, if the connection has a descriptor. Bytes that a program
// reads and writes through the descriptor are not counted.
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

// ReadFrom copies from r to the connection. If package net would let the kernel copy, ReadFrom does so too, with the exceptions
// that the package text names.
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
	case !tcp && !c.kind.raw(): // let c.Conn copy: its ReadFrom may need no buffer
		if rf, ok := c.Conn.(io.ReaderFrom); ok {
			n, err := rf.ReadFrom(r)
			c.wrote(n)
			return n, err
		}
	}
	return through(struct{ io.Writer }{c}, r)
}

// WriteTo copies from the connection to w. If package net would let the kernel copy, WriteTo does so too, with the exceptions
// that the package text names. net/http does not call WriteTo. So when WriteTo is called, the connection is hijacked, raw, or
// served by another server.
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
		case *net.UnixConn:
			// package net returns only when all bytes are copied. If one of the two connections is raw, a drain has to see the
			// bytes pass, so they go through a buffer.
			if netconn.Splices && !followed {
				n, err := from.WriteTo(to)
				c.read.Add(n)
				out.Wrote(n)
				return n, err
			}
		}
	}
	if _, ok := w.(io.ReaderFrom); ok && !c.kind.raw() && !ours { // the ReadFrom of w may need no buffer
		n, err := io.Copy(w, c.Conn)
		c.read.Add(n)
		return n, err
	}
	return through(w, c)
}

func (c *conn) notice() *Notice { return &c.course.told }
