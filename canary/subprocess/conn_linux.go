package subprocess

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxIdle     = 1 << 10     // how many connections without a request are kept
	idleTime    = time.Minute // and how long
	maxAnswer   = 10 << 20    // the bytes of the header of an answer
	keptRequest = 64 << 10    // the bytes of a request's header for which a connection keeps a buffer
)

// A conn is a connection to the process. A conn has one request at a time, and no goroutine.
type conn struct {
	*net.UnixConn
	in   *bufio.Reader
	out  bytes.Buffer // the header of the request
	left int64        // how many bytes may be read
	shut func()       // closes the connection
	stop func() bool  // ends the watch over the context of the request
	idle time.Time    // since when the connection has no request
}

func newConn(c *net.UnixConn) *conn {
	n := &conn{UnixConn: c}
	n.in, n.shut = bufio.NewReader(n), func() { c.Close() }
	return n
}

var errLong = errors.New("the header of the answer is too long")

func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errLong
	}
	n, err := c.UnixConn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// begin writes the request without its body. From then on, the end of the context closes the connection. After an error, the process
// has not got the end of the header, so no handler gets the request.
func (c *conn) begin(r *http.Request) error {
	c.out.Reset()
	writeRequest(&c.out, r)
	c.stop = context.AfterFunc(r.Context(), c.shut)
	_, err := c.Write(c.out.Bytes())
	if err != nil {
		c.discard()
	}
	return err
}

// answer reads the header of the next answer to a request.
func (c *conn) answer(r *http.Request) (*http.Response, error) {
	c.left = maxAnswer
	res, err := http.ReadResponse(c.in, r)
	c.left = math.MaxInt64
	if err == nil && res.StatusCode < 100 {
		return nil, fmt.Errorf("the status of the answer is %d", res.StatusCode)
	}
	return res, err
}

// discard closes a connection after its request.
func (c *conn) discard() {
	c.stop()
	c.Close()
}

// conns are the connections to the socket of a process.
type conns struct {
	socket string

	mu     sync.Mutex
	idle   []*conn // the last one was used last
	closed bool
}

// send writes a request without its body to a connection. After an error, the process has not got all of the header.
func (p *conns) send(r *http.Request) (*conn, error) {
	for {
		c, fresh := p.take(), false
		if c == nil {
			unix, err := dial(r.Context(), p.socket)
			if err != nil {
				return nil, err
			}
			c, fresh = newConn(unix), true
		}
		err := c.begin(r)
		if err == nil {
			return c, nil
		}
		if fresh || r.Context().Err() != nil {
			return nil, err
		}
	}
}

// take returns the idle connection with the latest request, or nil.
func (p *conns) take() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last], p.idle = nil, p.idle[:last]
	return c
}

// put keeps a connection for another request, if the end of the context has not closed the connection. put closes the
// connection with the earliest request, if there are too many connections, or after the time idleTime without a request.
func (p *conns) put(c *conn) {
	if !c.stop() || c.in.Buffered() > 0 {
		c.Close()
		return
	}
	c.stop = nil
	if c.out.Cap() > keptRequest {
		c.out = bytes.Buffer{}
	}
	c.idle = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return
	}
	if len(p.idle) > 0 && (len(p.idle) == maxIdle || c.idle.Sub(p.idle[0].idle) > idleTime) {
		p.idle[0].Close()
		p.idle = append(p.idle[:0], p.idle[1:]...)
	}
	p.idle = append(p.idle, c)
}

// close closes the connections without a request, and lets no connection be kept from then on.
func (p *conns) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
}

// serves reports whether the process answers at all.
func (p *conns) serves(ctx context.Context) bool {
	unix, err := dial(ctx, p.socket)
	if err != nil {
		return false
	}
	c := newConn(unix)
	defer c.Close()
	defer context.AfterFunc(ctx, c.shut)()
	if _, err := io.WriteString(c, question); err != nil {
		return false
	}
	_, err = c.answer(nil)
	return err == nil
}
