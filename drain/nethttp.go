package drain

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// A connection moves if nothing of a next request was read. Whether that is so shows in how net/http reads from it
// (silent, begun), which is not documented. So net/http is watched once before the first move, for half a millisecond, and
// one that reads in another way moves nothing: its idle connections are closed, as without Move.

// readsAsKnown reports whether net/http reads as it is known to.
var readsAsKnown = new(opinion).known

// watchLimit is how long it is waited for each thing that net/http should do. watchTries is how often all of that is tried
// if time is the reason for a no: it may have been the machine that stood still.
const (
	watchLimit = time.Second
	watchTries = 3
)

// An opinion of net/http.
type opinion struct {
	mu    sync.Mutex
	tries int
	good  bool
}

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

// watch lets serve answer a request that the first bytes of another one follow, and looks at its next Read: with limits of
// time and without, which net/http sets in the same places. late says that something did not come in time.
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

// A look is a Read of an idle connection.
type look struct {
	size      int  // of its buffer
	deadlines int  // how many were set since the connection was idle
	spoke     bool // the end that it found was not taken without a word
}

// lookAt returns what it saw; ok is false if net/http has not answered and read in time.
func lookAt(serve func(*http.Server, net.Listener), limit time.Duration, text string) (l look, ok bool) {
	near, far := net.Pipe()
	p := &probe{Conn: far, looks: make(chan look, 1), closed: make(chan struct{})}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ConnState: p.enter, ErrorLog: log.New(io.Discard, "", 0),
		IdleTimeout: limit, ReadHeaderTimeout: limit,
	}
	ln := &single{conn: p, over: make(chan struct{})}
	done := make(chan struct{})
	go func() { // ends when ln does
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

// A probe is the connection that is looked at.
type probe struct {
	net.Conn
	looks  chan look
	closed chan struct{}
	once   sync.Once

	mu        sync.Mutex
	idle      bool
	deadlines int // since it was idle
	spoke     bool
}

func (p *probe) enter(_ net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = state == http.StateIdle
	p.deadlines = 0
}

func (p *probe) hasSpoken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spoke
}

// Read tells of itself before it reads.
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

// Write notes what is said after the answer.
func (p *probe) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.spoke = p.spoke || p.idle
	p.mu.Unlock()
	return p.Conn.Write(b)
}

// SetReadDeadline counts.
func (p *probe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	p.deadlines++
	p.mu.Unlock()
	return p.Conn.SetReadDeadline(t)
}

// Close closes it.
func (p *probe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
}

// A single is a listener with one connection.
type single struct {
	conn net.Conn
	mu   sync.Mutex
	over chan struct{}
	once sync.Once
}

// Accept returns the connection, and then waits for the end.
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

// Close ends it.
func (l *single) Close() error   { l.once.Do(func() { close(l.over) }); return nil }
func (l *single) Addr() net.Addr { return &net.TCPAddr{} }
