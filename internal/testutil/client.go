package testutil

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// dialRest is how long a client waits after it could not connect: without this pause the clients would use so much processor
// time, while no server runs, that the next server starts late.
const dialRest = 5 * time.Millisecond

// client sends requests one after the other. Only the goroutine of the client uses its fields, until the load is stopped.
type client struct {
	load  *Load
	num   int
	fresh bool // the client opens a connection for each request
	log   entryLog
	timer *time.Timer

	conn   net.Conn // the open connection; nil: there is none
	br     *bufio.Reader
	peek   peeker
	res    response
	who    uint16   // the number of the process that gave the last answer on conn; 0: none
	buf    []byte   // a request to Path; the first fast bytes never change
	fast   int      // the length of the unchanging part of buf
	slow   []byte   // the unchanging part of a request to SlowPath
	rest   []byte   // the part of a request after its number
	name   Answerer // the process that gave the last answer
	number uint16   // the number of name in the roster
}

func newClient(l *Load, num int, fresh bool) *client {
	c := &client{load: l, num: num, fresh: fresh, br: bufio.NewReaderSize(nil, 8<<10)}
	c.timer = time.NewTimer(0)
	c.buf = c.head(l.opts.Path)
	c.fast = len(c.buf)
	c.slow = c.head(l.opts.SlowPath)
	rest := "\r\n" + l.opts.Header
	if fresh {
		rest += "Connection: close\r\n"
	}
	rest += fmt.Sprintf("Content-Length: %d\r\n\r\n", l.opts.Body)
	c.rest = append([]byte(rest), bytes.Repeat([]byte{'x'}, l.opts.Body)...)
	return c
}

// head returns the part of a request before its number.
func (c *client) head(path string) []byte {
	host := c.load.opts.Addr
	if c.load.opts.Network == "unix" {
		host = "localhost"
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nX-Request-Id: %s-%d-", c.load.opts.Method, path, host, c.load.prefix, c.num)
}

// run sends requests until the load is stopped.
func (c *client) run() {
	defer c.leave()
	for n := 0; ; n++ {
		start, ok := c.await(n)
		if !ok {
			return
		}
		slow := c.load.opts.SlowEvery > 0 && (n+1)%c.load.opts.SlowEvery == 0
		c.record(start, slow, c.do(n, slow))
	}
}

// await waits until request n is due, and returns that time, since the begin of the load. ok is false if the load was stopped.
func (c *client) await(n int) (start time.Duration, ok bool) {
	o := &c.load.opts
	if o.Rate > 0 {
		every := float64(time.Second) / o.Rate
		due := time.Duration((float64(n)*float64(len(c.load.clients)) + float64(c.num)) * every)
		return due, c.pause(due - time.Since(c.load.begin))
	}
	if n > 0 && o.Think > 0 && !c.pause(o.Think) {
		return 0, false
	}
	ok = c.pause(0)
	return time.Since(c.load.begin), ok
}

// pause waits for d, and reports whether the load goes on. It returns false at once if the load is stopped.
func (c *client) pause(d time.Duration) bool {
	if d <= 0 {
		select {
		case <-c.load.ending:
			return false
		default:
			return true
		}
	}
	c.timer.Reset(d)
	select {
	case <-c.load.ending:
		c.timer.Stop()
		return false
	case <-c.timer.C:
		return true
	}
}

// result is how a request has ended.
type result struct {
	outcome Outcome
	status  int
	who     uint16
	err     error
}

func (c *client) record(start time.Duration, slow bool, r result) {
	took := (time.Since(c.load.begin) - start) / tick
	c.log.add(entry{
		start: start, took: uint32(min(took, 1<<32-1)), status: uint16(r.status), who: r.who, outcome: r.outcome, slow: slow,
	}, r.err)
	c.load.total.Add(1)
	if r.outcome != OK {
		c.load.failed.Add(1)
	}
	if r.outcome == DialRefused || r.outcome == DialFailed {
		c.pause(dialRest)
	}
}

// do sends request n and reads its answer. After a failure the connection is closed.
func (c *client) do(n int, slow bool) result {
	deadline := time.Now().Add(c.load.opts.Timeout)
	if err := c.connect(deadline); err != nil {
		return result{outcome: dialOutcome(err), err: err}
	}
	outcome, err := c.exchange(n, slow, deadline)
	if err != nil {
		r := result{outcome: outcome, who: c.who, err: fmt.Errorf("%w%s%v", err, onConnectionFrom, c.conn.LocalAddr())}
		c.hangUp()
		return r
	}
	c.who = c.answerer()
	r := result{status: c.res.status, who: c.who}
	if r.status >= 400 {
		r.outcome, r.err = BadStatus, fmt.Errorf("status %d", r.status)
	}
	if c.fresh || c.res.close {
		c.announced()
		c.hangUp()
	}
	return r
}

func (c *client) announced() {
	if !c.fresh {
		c.load.announced.Add(1)
	}
}

// connect opens a connection, unless the client has an open connection that can still be used.
func (c *client) connect(deadline time.Time) error {
	if c.conn != nil && !c.usable() {
		c.hangUp()
	}
	if c.conn != nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	conn, err := c.load.opts.Dial(ctx, c.load.opts.Network, c.load.opts.Addr)
	if err != nil {
		return err
	}
	c.load.dials.Add(1)
	c.conn = conn
	c.br.Reset(conn)
	return c.peek.watch(conn.(syscall.Conn))
}

// usable reports whether the open connection is idle and was not closed by the server, and counts the case that it is not.
func (c *client) usable() bool {
	idle, stray := c.peek.idle()
	switch {
	case stray || c.br.Buffered() > 0:
		c.load.strays.Add(1)
		return false
	case !idle:
		c.load.idleClosed.Add(1)
	}
	return idle
}

func (c *client) hangUp() {
	if c.conn != nil {
		c.conn.Close()
	}
	c.conn, c.who = nil, 0
}

// leave ends the client. If the server has closed the idle connection, leave counts this.
func (c *client) leave() {
	if c.conn != nil {
		c.usable()
	}
	c.hangUp()
	c.timer.Stop()
}

// exchange writes the request and reads the answer.
func (c *client) exchange(n int, slow bool, deadline time.Time) (Outcome, error) {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return WriteFailed, err
	}
	if _, err := c.conn.Write(c.request(n, slow)); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return TimedOut, err
		}
		return WriteFailed, err
	}
	err := c.res.read(c.br)
	return readOutcome(err, c.res.begun), err
}

// request returns the bytes of request n. The slice is valid until the next call.
func (c *client) request(n int, slow bool) []byte {
	b := c.buf[:c.fast]
	if slow {
		b = c.slow
	}
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, c.rest...)
	if slow {
		c.slow = b[:len(c.slow)]
	} else {
		c.buf = b
	}
	return b
}

// answerer returns the number of the process that gave the answer. The number is looked up only if another process gave the
// previous answer.
func (c *client) answerer() uint16 {
	pid, _ := number(c.res.pid)
	if string(c.res.version) != c.name.Version || string(c.res.generation) != c.name.Generation || pid != c.name.PID {
		c.name = Answerer{string(c.res.version), string(c.res.generation), pid}
		c.number = c.load.who.number(c.name)
	}
	return c.number
}

func dialOutcome(err error) Outcome {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return TimedOut
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return DialRefused // if the file of a unix socket is missing, no process listens either
	}
	return DialFailed
}

func readOutcome(err error, begun bool) Outcome {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, os.ErrDeadlineExceeded):
		return TimedOut
	case errors.Is(err, errMalformed):
		return Malformed
	case begun:
		return Partial
	case errors.Is(err, io.EOF):
		return NoResponse
	}
	return Reset
}
