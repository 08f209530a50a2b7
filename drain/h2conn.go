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
	// ackTime limits how long the method end waits for the client after the first GOAWAY. First it waits for the answer to the
	// PING, and then, in settle, for a time without streams.
	ackTime = 5 * time.Second
	// settleTime is how long the connection has to be without a stream after the answer to the PING. The client of Go, for
	// example, may choose this connection for a request before it reads the GOAWAY, and may open the stream only after it has
	// answered the PING.
	settleTime = 300 * time.Millisecond
	// prefaceTime is how long greet waits for the preface of a client, as long as net/http would.
	prefaceTime = 10 * time.Second
)

// An h2step is a step on the way to the end of an HTTP/2 connection.
type h2step int32

const (
	open      h2step = iota // no end was announced
	announced               // the first GOAWAY has to be written as soon as no frame is being written
	told                    // the first GOAWAY was written
	acked                   // the method end has finished its wait for the client: Read has to give frame.Hint to net/http
	hinted                  // Read has begun to give frame.Hint to net/http
	finished                // Read returns io.EOF: net/http has written its GOAWAY, or has returned before leave was called
)

// An h2conn is the wrapper of an HTTP/2 connection, above its TLS. net/http reads and writes through the h2conn. An
// h2conn ends the connection in two steps, RFC 9113 section 6.8: first it writes a GOAWAY that refuses no stream. After the
// client has read this GOAWAY, net/http writes its own GOAWAY, which refuses all streams that come later.
type h2conn struct {
	net.Conn
	entry  h2entry
	course *course

	step  atomic.Int32  // of type h2step
	idle  chan struct{} // a signal that the last stream has ended; has room for one signal
	ended chan struct{} // closed when net/http has returned from serving the connection
	left  chan struct{} // closed when the method end has returned
	in    h2reader
	out   h2writer

	mu       sync.Mutex
	quiet    time.Time // the result of quietSince at the moment when the step became hinted
	deadline readDeadline
}

// An h2entry is what an h2conn uses of its conn.
type h2entry interface {
	quietSince() time.Time // returns when the connection became idle; returns the zero time while there is a stream
}

// An h2reader follows the frames that the client sends. The goroutine that reads uses all fields. Other goroutines use only the
// fields used and acked.
type h2reader struct {
	frames frame.HTTP2
	give   string        // bytes that net/http is to read before the next bytes of the client
	used   atomic.Bool   // the client has opened a stream
	acked  chan struct{} // closed when the client has answered the PING
	known  bool          // acked is closed
}

// An h2writer follows the frames that net/http writes.
type h2writer struct {
	sync.Mutex
	frames frame.HTTP2
	gone   bool // net/http has written a GOAWAY
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

// advance changes the step from current to next, and returns true. If the step is not equal to current, advance changes nothing
// and returns false.
func (c *h2conn) advance(current, next h2step) bool {
	return c.step.CompareAndSwap(int32(current), int32(next))
}

// leave begins to end the connection. Only the first call has an effect.
func (c *h2conn) leave() {
	if c.advance(open, announced) {
		go c.end() // closeDown waits for this goroutine
	}
}

// closeDown is called when net/http has returned from serving the connection. It waits for the goroutine of leave.
func (c *h2conn) closeDown() {
	close(c.ended)
	if !c.advance(open, finished) {
		<-c.left
	}
}

// end writes the first GOAWAY, waits for the client, and makes Read give frame.Hint to net/http.
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

// wait waits until sign is closed or the connection has ended, but no longer than limit. It returns false if the limit was
// reached.
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

// settle waits until there was no stream for settleTime. It ends at the time limit even if there is still a stream. A longer
// wait would be of no use: the client has read the GOAWAY and opens no other stream.
func (c *h2conn) settle(limit time.Time) {
	start := time.Now()
	for rest := c.settled(start, limit); rest > 0; rest = c.settled(start, limit) {
		t := time.NewTimer(rest)
		select {
		case <-c.idle:
		case <-t.C:
		case <-c.ended:
			limit = start
		}
		t.Stop()
	}
}

// rested notes that the last stream has ended.
func (c *h2conn) rested() {
	select {
	case c.idle <- struct{}{}:
	default:
	}
}

// settled returns how long settle has to wait before it calls settled again. If the result is 0 or less, the wait is over.
// While there is a stream, the result is the time until limit. While there is no stream, the result is the rest of settleTime.
// settleTime counts from the end of the last stream, but not from a time before start. The result is never more than the time
// until limit.
func (c *h2conn) settled(start, limit time.Time) time.Duration {
	since := c.entry.quietSince()
	if since.IsZero() {
		return time.Until(limit)
	}
	if since.Before(start) {
		since = start
	}
	return min(time.Until(limit), time.Until(since.Add(settleTime)))
}

// announce writes the first GOAWAY, if it has to be written and no frame is being written. If net/http has written a GOAWAY,
// announce writes nothing: a later GOAWAY must not name a higher last stream than an earlier GOAWAY. The caller has locked
// c.out.
func (c *h2conn) announce() {
	if c.out.gone || !c.out.frames.Between() || !c.advance(announced, told) {
		return
	}
	io.WriteString(c.Conn, frame.FirstGoAway) // an error is ignored: the next Write of net/http gets an error as well
}

// Write writes p, and inserts the first GOAWAY between two frames if it has to be written.
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

// finish ends the connection after net/http has written its GOAWAY, if there has been no stream since the step became hinted.
// Then nothing is left to write, and no stream will come. If there has been a stream, finish does nothing, and net/http ends
// the connection later.
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

// Read reads, and looks at the frames of the client. Between two frames, Read inserts frame.Hint if the step is acked.
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

// tell gives frame.Hint to net/http if the step is acked and no frame of the client is incomplete. Hint makes net/http send its
// GOAWAY. If the step is finished, tell returns io.EOF. If there is nothing to give, tell returns 0 and nil.
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

// note looks at bytes that the client has sent.
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

// greet reads the preface, as net/http does for connections with TLS, and reports whether the preface has come. In a drain
// greet waits only until the step is acked.
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

// poke interrupts the Read that waits, or the next Read.
func (c *h2conn) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline.interrupt(c.Conn)
}

// unpoke is called when a Read has returned err. If err comes from poke, unpoke restores the deadline and returns true. If err
// has another cause, unpoke returns false.
func (c *h2conn) unpoke(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deadline.interrupted || !timeout(err) {
		return false
	}
	c.deadline.restore(c.Conn)
	return true
}

// SetReadDeadline sets the deadline. While poke interrupts a Read, the deadline is stored, and set after the interruption.
func (c *h2conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline.set(c.Conn, t)
}

// SetDeadline calls SetReadDeadline and SetWriteDeadline.
func (c *h2conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
