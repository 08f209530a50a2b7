package drain

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/drain/internal/frame"
)

const (
	// ackTime is how long the answer to the PING after the first GOAWAY is waited for.
	ackTime = 5 * time.Second
	// settleTime is how long there has to be no stream after the answer. A client may have chosen a stream before it read
	// the GOAWAY, and write the stream after its answer, as the client of Go does.
	settleTime = 300 * time.Millisecond
	// prefaceTime is how long net/http waits for the preface of a client.
	prefaceTime = 10 * time.Second
)

// An h2step is how far the end of an HTTP/2 connection is.
type h2step int32

const (
	open      h2step = iota
	announced        // the first GOAWAY is to be written, between two frames
	told             // the first GOAWAY was written
	acked            // the client knows, or does not answer: net/http is to be told
	hinted           // net/http was told
	finished         // the GOAWAY of net/http is out, and there is no stream; or the connection has ended by itself
)

// An h2conn stands between net/http and an HTTP/2 connection, above TLS. An h2conn ends the connection in two steps,
// RFC 9113 section 6.8: first a GOAWAY that refuses no stream, and after the client has read the first, the GOAWAY of
// net/http, which refuses all streams that come later.
type h2conn struct {
	net.Conn
	entry  h2entry
	course *course

	step  atomic.Int32  // of type h2step
	idle  chan struct{} // has room for one signal: there is no stream any more
	ended chan struct{} // closed when net/http has left the connection
	left  chan struct{} // closed when end has returned
	in    h2reader
	out   h2writer

	mu       sync.Mutex
	quiet    time.Time // since when there was no stream as net/http was told; zero if there was a stream
	deadline readDeadline
}

// An h2entry is what registers the connection of an h2conn.
type h2entry interface {
	quietSince() time.Time // since when there is no stream; zero if there is a stream
}

// An h2reader follows what the client sends, in the goroutine that reads.
type h2reader struct {
	frames frame.HTTP2
	give   string        // what net/http reads before anything else
	used   atomic.Bool   // a stream was opened
	acked  chan struct{} // closed when the client has answered
	known  bool          // acked is closed
}

// An h2writer follows what net/http writes.
type h2writer struct {
	sync.Mutex
	frames frame.HTTP2
	gone   bool // net/http has sent GOAWAY
}

func newH2Conn(nc net.Conn, entry h2entry, course *course) *h2conn {
	return &h2conn{
		Conn:   nc,
		entry:  entry,
		course: course,
		idle:   make(chan struct{}, 1),
		ended:  make(chan struct{}),
		left:   make(chan struct{}),
		in:     h2reader{acked: make(chan struct{})},
	}
}

func (c *h2conn) at() h2step { return h2step(c.step.Load()) }

// advance goes from a step to the next, and reports whether the connection was there.
func (c *h2conn) advance(from, to h2step) bool { return c.step.CompareAndSwap(int32(from), int32(to)) }

// leave begins the end of the connection, once.
func (c *h2conn) leave() {
	if c.advance(open, announced) {
		go c.end() // closeDown waits for it
	}
}

// closeDown is called when net/http has left the connection. It waits for end.
func (c *h2conn) closeDown() {
	close(c.ended)
	if !c.advance(open, finished) {
		<-c.left
	}
}

func (c *h2conn) end() {
	defer close(c.left)
	c.out.Lock()
	c.announce()
	c.out.Unlock()
	now := time.Now()
	limit := now.Add(ackTime)
	if c.course.latest.Before(limit) {
		limit = c.course.latest
	}
	known := c.wait(c.in.acked, min(silentTime, time.Until(limit)))
	if !known && c.in.used.Load() {
		known = c.wait(c.in.acked, time.Until(limit))
	}
	if known {
		c.settle(limit)
	}
	c.step.Store(int32(acked))
	c.poke()
}

// wait waits for a sign of the client, and reports whether it came. The end of the connection counts as a sign.
func (c *h2conn) wait(sign <-chan struct{}, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-sign:
	case <-c.ended:
	case <-t.C:
		return false
	}
	return true
}

// settle returns when there was no stream for a while. A stream that lasts does not need more: its client opens no other.
func (c *h2conn) settle(limit time.Time) {
	from := time.Now()
	for rest := c.settled(from, limit); rest > 0; rest = c.settled(from, limit) {
		t := time.NewTimer(rest)
		select {
		case <-c.idle:
		case <-t.C:
		case <-c.ended:
			limit = from
		}
		t.Stop()
	}
}

// rested notes that there is no stream any more.
func (c *h2conn) rested() {
	select {
	case c.idle <- struct{}{}:
	default:
	}
}

// settled returns how long it is at least until there was no stream for settleTime, or the limit.
func (c *h2conn) settled(from, limit time.Time) time.Duration {
	since := c.entry.quietSince()
	if since.IsZero() {
		return time.Until(limit)
	}
	if since.Before(from) {
		since = from
	}
	return min(time.Until(limit), time.Until(since.Add(settleTime)))
}

// announce writes the first GOAWAY if there is room for it. After a GOAWAY of net/http there is none: the last stream
// must not grow. c.out is locked.
func (c *h2conn) announce() {
	if c.out.gone || !c.out.frames.Between() || !c.advance(announced, told) {
		return
	}
	io.WriteString(c.Conn, frame.FirstGoAway) // net/http meets the error, if there is one, too
}

// Write writes, and puts the first GOAWAY in where there is room for it.
func (c *h2conn) Write(p []byte) (int, error) {
	c.out.Lock()
	defer c.out.Unlock()
	written, seen := 0, 0
	for seen < len(p) {
		n, end := c.out.frames.Next(p[seen:])
		seen += n
		if end && c.out.frames.Kind() == frame.GoAway {
			c.out.gone = true
		}
		if end && c.at() == announced && c.out.frames.Between() {
			n, err := c.Conn.Write(p[written:seen])
			written += n
			if err != nil {
				return written, err
			}
			c.announce()
		}
	}
	n, err := c.Conn.Write(p[written:])
	if err == nil && c.out.gone {
		c.finish()
	}
	return written + n, err
}

// finish ends the connection after the GOAWAY of net/http if there was no stream before it and the client knew: nothing
// of a stream can wait to be written, and none will come.
func (c *h2conn) finish() {
	if c.at() != hinted {
		return
	}
	c.mu.Lock()
	quiet := c.quiet
	c.mu.Unlock()
	if !quiet.IsZero() && c.entry.quietSince().Equal(quiet) && c.advance(hinted, finished) {
		c.poke()
	}
}

// Read reads; what comes is looked at, and at a boundary net/http is told of the end.
func (c *h2conn) Read(p []byte) (int, error) {
	for {
		if n, err := c.tell(p); n > 0 || err != nil {
			return n, err
		}
		n, err := c.Conn.Read(p)
		if n > 0 {
			c.in.note(p[:n])
			return n, err
		}
		if !c.unpoke(err) {
			return n, err
		}
	}
}

// tell gives net/http the bytes that make net/http send its GOAWAY, and in the end io.EOF.
func (c *h2conn) tell(p []byte) (int, error) {
	switch at := c.at(); {
	case at == finished:
		return 0, io.EOF
	case at == acked && c.in.frames.Between():
		quiet := c.entry.quietSince()
		c.mu.Lock()
		c.quiet = quiet
		c.mu.Unlock()
		c.in.give = frame.Hint
		c.step.Store(int32(hinted))
	}
	n := copy(p, c.in.give)
	c.in.give = c.in.give[n:]
	return n, nil
}

// note looks at bytes of the client.
func (r *h2reader) note(p []byte) {
	for len(p) > 0 {
		n, end := r.frames.Next(p)
		p = p[n:]
		switch {
		case !end:
		case r.frames.Kind() == frame.Headers:
			r.used.Store(true)
		case !r.known && r.frames.Pong():
			r.known = true
			close(r.acked)
		}
	}
}

// greet reads the preface, as net/http would have. In a drain the preface has the time of a first request.
func (c *h2conn) greet() bool {
	c.SetReadDeadline(time.Now().Add(prefaceTime))
	got := make([]byte, len(frame.ClientPreface))
	for have := 0; have < len(got); {
		n, err := c.Conn.Read(got[have:])
		have += n
		if err != nil && !c.unpoke(err) || n == 0 && c.at() >= acked {
			return false
		}
	}
	c.SetReadDeadline(time.Time{})
	return string(got) == frame.ClientPreface
}

// poke interrupts the Read that waits, or the next one.
func (c *h2conn) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline.interrupt(c.Conn)
}

// unpoke reports whether a Read ended because of poke, and puts the deadline back.
func (c *h2conn) unpoke(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deadline.interrupted || !timeout(err) {
		return false
	}
	c.deadline.restore(c.Conn)
	return true
}

// SetReadDeadline sets the deadline, or keeps the deadline while a Read is to be interrupted.
func (c *h2conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline.set(c.Conn, t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *h2conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
