// Package nethttpcheck finds out whether the net/http that a program is built with reads from its connections as package
// drain expects.
//
// Package drain passes on an idle connection if no byte of a next request was read from the connection. Whether a byte was
// read shows in the way in which net/http reads: in the size of its buffer, and in the read deadlines that it sets. That
// way is not documented and may change with any release of Go, so the package checks it once, on a connection in memory.
package nethttpcheck

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Check reports whether net/http reads in the known way. If the answer is false, no idle connection may be passed
// on: a byte of a next request could be lost without a sign.
//
// The first call runs a server on a connection in memory and ends the server before the call returns. That takes about
// half a millisecond, and up to some seconds on a machine that stands still. Calls at the same time wait for the first.
// Later calls return the result and do not wait, unless a step took too long: then the next two calls check again.
// Check may be called from any goroutine; the first call should be made while no lock is held.
func Check() bool { return result.known() }

var result check

// stepLimit is how long each step of net/http may take. maxTries is how often net/http is checked if a step took too
// long: the machine may have stood still.
const (
	stepLimit = time.Second
	maxTries  = 3
)

// A check keeps the result of checking net/http.
type check struct {
	mu    sync.Mutex
	tries int
	good  bool
}

// known returns the result, and checks net/http before if there is none.
func (c *check) known() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good || c.tries == maxTries {
		return c.good
	}
	c.tries++
	good, late := run(func(srv *http.Server, ln net.Listener) { srv.Serve(ln) })
	if c.good = good; !late {
		c.tries = maxTries
	}
	return good
}

// run lets serve answer a request that is followed by the first bytes of a next request, and checks the next Read: once
// with limits of time and once without, since net/http sets the deadlines for both in the same places. late reports
// whether a step took too long.
func run(serve func(*http.Server, net.Listener)) (good, late bool) {
	const whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, limit := range []time.Duration{time.Minute, 0} {
		for _, n := range []int{0, 1, 2, 3, len(whole) - 4} {
			r, ok := observe(serve, limit, whole+whole[:n])
			part := r.size&(r.size-1) != 0 // of the buffer
			waits := r.deadlines <= 1 && part == (n > 0) && !r.wrote
			if !ok || n < 4 && !waits || n >= 4 && r.deadlines < 2 {
				return false, !ok
			}
		}
	}
	return true, false
}

// A read describes a Read of an idle connection.
type read struct {
	size      int  // of the buffer
	deadlines int  // how many read deadlines were set since the connection was idle
	wrote     bool // bytes were written after the Read found the end of the connection
}

// observe sends text to a server that serve runs, and describes the Read that follows the first answer. ok reports whether
// the server has answered and read in time. The server has ended when observe returns.
func observe(serve func(*http.Server, net.Listener), limit time.Duration, text string) (r read, ok bool) {
	near, far := net.Pipe()
	c := &testConn{Conn: far, reads: make(chan read, 1), closed: make(chan struct{})}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ConnState: c.enter, ErrorLog: log.New(io.Discard, "", 0),
		IdleTimeout: limit, ReadHeaderTimeout: limit,
	}
	ln := &single{conn: c, over: make(chan struct{})}
	done := make(chan struct{})
	go func() { // ends when ln does: observe waits for it
		defer close(done)
		serve(srv, ln)
	}()
	defer func() {
		srv.Close()
		ln.Close()
		<-done
	}()
	defer near.Close()
	near.SetDeadline(time.Now().Add(stepLimit))
	if _, err := io.WriteString(near, text); err != nil {
		return r, false
	}
	if _, err := http.ReadResponse(bufio.NewReader(near), nil); err != nil {
		return r, false
	}
	late := time.NewTimer(stepLimit)
	defer late.Stop()
	select {
	case r = <-c.reads:
	case <-late.C:
		return r, false
	}
	near.Close() // the Read returns io.EOF
	select {
	case <-c.closed:
		r.wrote = c.hasWritten()
		return r, true
	case <-late.C:
		return r, false
	}
}

// A testConn is the connection of the server that is checked.
type testConn struct {
	net.Conn
	reads  chan read
	closed chan struct{}
	once   sync.Once

	mu        sync.Mutex
	idle      bool
	deadlines int  // read deadlines since the connection was idle
	wrote     bool // bytes were written while the connection was idle
}

// enter is the ConnState of the server.
func (c *testConn) enter(_ net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = state == http.StateIdle
	c.deadlines = 0
}

// hasWritten reports whether bytes were written while the connection was idle.
func (c *testConn) hasWritten() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrote
}

// Read sends a description of the first Read of the idle connection to reads, and reads.
func (c *testConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	if c.idle {
		select {
		case c.reads <- read{size: len(b), deadlines: c.deadlines}:
		default: // the first one counts
		}
	}
	c.mu.Unlock()
	return c.Conn.Read(b)
}

// Write notes whether bytes are written after the answer.
func (c *testConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.wrote = c.wrote || c.idle
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// SetReadDeadline counts the deadlines.
func (c *testConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadlines++
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

// Close closes closed and the connection.
func (c *testConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A single is a listener that has one connection to accept.
type single struct {
	conn net.Conn
	mu   sync.Mutex
	over chan struct{}
	once sync.Once
}

// Accept returns the connection; a second call waits for Close.
func (l *single) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.over
	return nil, net.ErrClosed
}

// Close ends Accept. The connection is not closed.
func (l *single) Close() error { l.once.Do(func() { close(l.over) }); return nil }

// Addr returns an address without meaning.
func (l *single) Addr() net.Addr { return &net.TCPAddr{} }
