// Package nethttpcheck finds out whether the net/http that a program is built with reads from its connections as package
// drain expects.
//
// Package drain passes on an idle connection if no byte of a next request was read from the connection. Whether a byte was
// read shows in the way in which net/http reads: in the size of its buffer, and in the read deadlines that it sets. That
// way is not documented and may change with any release of Go, so it is watched once, on a connection in memory.
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

// ReadsAsKnown reports whether net/http reads in the known way. If the answer is false, no idle connection may be passed
// on: a byte of a next request could be lost without a sign.
//
// The first call starts a server on a connection in memory, watches it, and ends it before it returns; that takes about
// half a millisecond, and up to some seconds on a machine that stands still. Calls at the same time wait for the first.
// Later calls return what was found and do not wait, unless a step took too long: then the next two calls watch again.
// ReadsAsKnown may be called from any goroutine; the first call should be made while no lock is held.
func ReadsAsKnown() bool { return known.known() }

var known opinion

// watchLimit is how long watch waits for each step of net/http. watchTries is how often net/http is watched if a step
// took too long: the machine may have stood still.
const (
	watchLimit = time.Second
	watchTries = 3
)

// An opinion keeps what was found out about net/http.
type opinion struct {
	mu    sync.Mutex
	tries int
	good  bool
}

// known returns what was found out, and finds it out before if need be.
func (o *opinion) known() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.good || o.tries == watchTries {
		return o.good
	}
	o.tries++
	good, late := watch(func(srv *http.Server, ln net.Listener) { srv.Serve(ln) })
	if o.good = good; !late {
		o.tries = watchTries
	}
	return good
}

// watch lets serve answer a request that is followed by the first bytes of a next request, and looks at the next Read: once
// with limits of time and once without, since net/http sets the deadlines for both in the same places. late reports
// whether a step took too long.
func watch(serve func(*http.Server, net.Listener)) (good, late bool) {
	const whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, limit := range []time.Duration{time.Minute, 0} {
		for _, n := range []int{0, 1, 2, 3, len(whole) - 4} {
			l, ok := lookAt(serve, limit, whole+whole[:n])
			part := l.size&(l.size-1) != 0 // of the buffer
			waits := l.deadlines <= 1 && part == (n > 0) && !l.spoke
			if !ok || n < 4 && !waits || n >= 4 && l.deadlines < 2 {
				return false, !ok
			}
		}
	}
	return true, false
}

// A look describes a Read of an idle connection.
type look struct {
	size      int  // of the buffer
	deadlines int  // how many read deadlines were set since the connection was idle
	spoke     bool // bytes were written after the Read found the end of the connection
}

// lookAt sends text to a server that serve runs, and describes the Read that follows the first answer. ok reports whether
// the server has answered and read in time. The server has ended when lookAt returns.
func lookAt(serve func(*http.Server, net.Listener), limit time.Duration, text string) (l look, ok bool) {
	near, far := net.Pipe()
	p := &probe{Conn: far, looks: make(chan look, 1), closed: make(chan struct{})}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ConnState: p.enter, ErrorLog: log.New(io.Discard, "", 0),
		IdleTimeout: limit, ReadHeaderTimeout: limit,
	}
	ln := &single{conn: p, over: make(chan struct{})}
	done := make(chan struct{})
	go func() { // ends when ln does: lookAt waits for it
		defer close(done)
		serve(srv, ln)
	}()
	defer func() {
		srv.Close()
		ln.Close()
		<-done
	}()
	defer near.Close()
	near.SetDeadline(time.Now().Add(watchLimit))
	if _, err := io.WriteString(near, text); err != nil {
		return l, false
	}
	if _, err := http.ReadResponse(bufio.NewReader(near), nil); err != nil {
		return l, false
	}
	late := time.NewTimer(watchLimit)
	defer late.Stop()
	select {
	case l = <-p.looks:
	case <-late.C:
		return l, false
	}
	near.Close() // the Read returns io.EOF
	select {
	case <-p.closed:
		l.spoke = p.hasSpoken()
		return l, true
	case <-late.C:
		return l, false
	}
}

// A probe is the connection of the server that is watched.
type probe struct {
	net.Conn
	looks  chan look
	closed chan struct{}
	once   sync.Once

	mu        sync.Mutex
	idle      bool
	deadlines int  // read deadlines since the connection was idle
	spoke     bool // bytes were written while the connection was idle
}

// enter is the ConnState of the server.
func (p *probe) enter(_ net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = state == http.StateIdle
	p.deadlines = 0
}

// hasSpoken reports whether bytes were written while the connection was idle.
func (p *probe) hasSpoken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spoke
}

// Read sends a description of the first Read of the idle connection to looks, and reads.
func (p *probe) Read(b []byte) (int, error) {
	p.mu.Lock()
	if p.idle {
		select {
		case p.looks <- look{size: len(b), deadlines: p.deadlines}:
		default: // the first one counts
		}
	}
	p.mu.Unlock()
	return p.Conn.Read(b)
}

// Write notes whether bytes are written after the answer.
func (p *probe) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.spoke = p.spoke || p.idle
	p.mu.Unlock()
	return p.Conn.Write(b)
}

// SetReadDeadline counts the deadlines.
func (p *probe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	p.deadlines++
	p.mu.Unlock()
	return p.Conn.SetReadDeadline(t)
}

// Close closes closed and the connection.
func (p *probe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
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
