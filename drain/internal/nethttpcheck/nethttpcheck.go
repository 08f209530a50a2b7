// Package nethttpcheck finds out whether the net/http that a program is built with reads from its connections as package
// drain expects.
//
// Package drain moves an idle connection to another process only if no byte of a next request was read from the connection. Two
// details of net/http show whether a byte was read: the size of the buffer that net/http passes to Read, and the read deadlines
// that net/http sets. These details are not documented and may change with any release of Go. So the package checks them once,
// with a connection in memory.
package nethttpcheck

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Check reports whether net/http reads in the known way. If Check returns false, an idle connection must not be moved to
// another process: bytes of a next request could be lost unnoticed.
//
// The first call runs servers on connections in memory, and ends them before it returns. This takes about half a millisecond,
// or some seconds on a machine that is very busy. Calls during the first call wait for its end. Later calls return the stored
// result at once. There is one exception: if a step of the check took too long, the next call checks again. There are at most
// three checks. Check may be called from any goroutine. Because of the wait, call Check while no lock is held.
func Check() bool { return result.known() }

// Known reports whether Check has returned true. Known does not wait and checks nothing, so it may be called while a lock is
// held.
func Known() bool { return result.good.Load() }

var result check

// stepLimit is how long each step of net/http may take. If a step takes longer, perhaps only the machine was very busy, so
// net/http is checked again, but at most maxTries times in all.
const (
	stepLimit = time.Second
	maxTries  = 3
)

// A check checks net/http and stores the result.
type check struct {
	mu    sync.Mutex  // locked while net/http is checked
	tries int         // how often net/http was checked; maxTries if the result is final
	good  atomic.Bool // net/http reads in the known way
}

// known returns the result of the check. If there is no final result, known first checks net/http.
func (c *check) known() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good.Load() || c.tries == maxTries {
		return c.good.Load()
	}
	c.tries++
	good, late := run(func(srv *http.Server, ln net.Listener) { srv.Serve(ln) })
	c.good.Store(good)
	if !late {
		c.tries = maxTries
	}
	return good
}

// run makes servers answer a request, and checks the Read after the answer. Together with the request, the server gets the
// first n bytes of a next request. run tries several n, and tries them with timeouts and without, because net/http has to set
// the deadlines at the same points in both cases. good reports whether net/http reads in the known way. late reports whether a
// step took too long.
func run(serve func(*http.Server, net.Listener)) (good, late bool) {
	const whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, limit := range []time.Duration{time.Minute, 0} {
		for _, n := range []int{0, 1, 2, 3, len(whole) - 4} {
			r, ok := observe(serve, limit, whole+whole[:n])
			part := r.size&(r.size-1) != 0 // the whole buffer has a power of two as its size, so the Read got a part
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
	size      int  // the size of the slice that Read gets
	deadlines int  // how many read deadlines were set since the connection became idle
	wrote     bool // bytes were written while the connection was idle
}

// observe sends text to a server that the function serve runs, and returns a description of the Read that follows the first
// answer. limit is the timeout of the server for a next request and for its header; 0 means without a limit. ok reports whether
// the server has answered, read, and closed the connection in time. observe ends the server before it returns.
func observe(serve func(*http.Server, net.Listener), limit time.Duration, text string) (r read, ok bool) {
	near, far := net.Pipe()
	c := &testConn{Conn: far, reads: make(chan read, 1), closed: make(chan struct{})}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ConnState: c.enter, ErrorLog: log.New(io.Discard, "", 0),
		IdleTimeout: limit, ReadHeaderTimeout: limit,
	}
	ln := &single{conn: c, over: make(chan struct{})}
	done := make(chan struct{})
	go func() { // observe closes ln, and waits for this goroutine
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
	deadlines int  // how many read deadlines were set since the last change of state
	wrote     bool // bytes were written while the connection was idle
}

// enter is the function ConnState of the server.
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

// Read reads. The first Read of the idle connection also sends a description of itself to the channel reads.
func (c *testConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	if c.idle {
		select {
		case c.reads <- read{size: len(b), deadlines: c.deadlines}:
		default: // this is not the first Read of the idle connection
		}
	}
	c.mu.Unlock()
	return c.Conn.Read(b)
}

// Write writes, and notes whether it does so while the connection is idle.
func (c *testConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.wrote = c.wrote || c.idle
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// SetReadDeadline sets the deadline, and counts the deadlines.
func (c *testConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadlines++
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

// Close closes the connection. The first call also closes the channel c.closed.
func (c *testConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A single is a listener whose Accept returns a single connection.
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

// Close makes Accept return. It does not close the connection.
func (l *single) Close() error { l.once.Do(func() { close(l.over) }); return nil }

// Addr returns an address without meaning.
func (l *single) Addr() net.Addr { return &net.TCPAddr{} }
