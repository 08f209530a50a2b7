package drain

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// How long each step of the escalation is given. A step comes only to what the one before did not end.
const (
	cancelTime   = 250 * time.Millisecond
	deadlineTime = 100 * time.Millisecond
	halfTime     = 100 * time.Millisecond
	// partingTime is how long accept loops and handlers have to return after the last step.
	partingTime = 500 * time.Millisecond
)

// A suspect is something that went on when Grace had run out, and how it is listed.
type suspect struct {
	item interface{ act(action string) string }
	at   int
}

// expire ends what is left, step by step. No loop accepts any more when it lists that, and no function of
// RegisterOnShutdown goes without its call, unless told says that all had it.
func (s *Server) expire(ctx context.Context, told bool) error {
	s.enterStage(expired)
	for _, l := range s.accepting() {
		l.stop()
	}
	s.await(partingTime, func() bool { return len(s.accepting()) == 0 })
	s.ledger.close(true)
	left, suspects := s.suspects()
	if !told {
		s.http.Shutdown(ctx)
	}
	for _, step := range []struct {
		action string
		wait   time.Duration
	}{{"cancelled", cancelTime}, {"deadline", deadlineTime}, {"half-closed", halfTime}, {"closed", 0}} {
		if len(suspects) > 0 {
			s.step(step.action, step.wait, left, suspects)
		}
	}
	s.enterStage(cutting)
	for _, c := range s.ledger.list() {
		c.cut()
	}
	s.http.Close()
	s.await(partingTime, s.empty)
	s.log(left)
	s.mu.Lock()
	s.report.Left = left
	s.mu.Unlock()
	if len(left) == 0 {
		return nil
	}
	return &TimeoutError{Grace: s.opts.Grace, Left: left}
}

// step does one thing to all that goes on, and waits for its effect.
func (s *Server) step(action string, wait time.Duration, left []Entry, suspects []suspect) {
	for _, p := range suspects {
		if taken := p.item.act(action); taken != "" {
			left[p.at].Action = taken
		}
	}
	if wait > 0 {
		s.await(wait, s.empty)
	}
}

func (s *Server) empty() bool {
	_, all := s.ledger.left()
	return all == 0
}

// suspects lists what goes on: not what has its last answer, nor what has nothing to do.
func (s *Server) suspects() (left []Entry, all []suspect) {
	for _, c := range s.ledger.list() {
		if c.working() {
			for _, e := range c.entries(nil) {
				all = append(all, suspect{c, len(left)})
				left = append(left, e)
			}
		}
	}
	for _, t := range s.ledger.listTickets() {
		all = append(all, suspect{t, len(left)})
		left = append(left, t.entry())
	}
	return left, all
}

// working reports whether something goes on at the connection: a request that is read or answered, a hijack that has not
// ended, a Move that has not returned.
func (c *conn) working() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == http.StateClosed || c.lingering:
		return false
	case c.h2 != nil && c.state == http.StateIdle:
		return false
	}
	return !c.silent() || c.touched || c.handling
}

// act takes a step against the connection, and says which it was; none if it has ended.
func (c *conn) act(action string) string {
	c.mu.Lock()
	ended, gone, cancel := c.ended || c.lingering, c.gone.Load(), c.cancel
	answering, elsewhere := c.answering(), c.marks&shared != 0
	c.mu.Unlock()
	switch {
	case ended:
		return ""
	case action == "cancelled" && cancel != nil:
		cancel(ErrExpired)
	case gone:
	case action == "deadline":
		if answering {
			resets(c.Conn)
		}
		c.Conn.SetDeadline(past)
	case action == "half-closed" && answering: // an answer of which a part is missing would look complete
		return ""
	case action == "half-closed" && elsewhere: // it would end there too
		return ""
	case action == "half-closed":
		c.CloseWrite()
	case action == "closed" && c.cut():
		action = "reset"
	}
	c.mu.Lock()
	c.action = action
	c.mu.Unlock()
	return action
}

// act cancels a job; nothing more can be done to one.
func (t *ticket) act(action string) string {
	if action != "cancelled" {
		return ""
	}
	t.ledger.mu.Lock()
	t.Action = action
	t.ledger.mu.Unlock()
	if t.cancel != nil {
		t.cancel(ErrExpired)
	}
	return action
}

// answering reports whether an answer of HTTP/1 may be incomplete: where its end is the end of the connection, only a reset
// tells the client.
func (c *conn) answering() bool { return c.state == http.StateActive && !c.http2 }

// resets makes the close of a connection a reset, where that can be done.
func resets(nc net.Conn) bool {
	l, ok := nc.(interface{ SetLinger(int) error })
	return ok && l.SetLinger(0) == nil
}

// cut closes the connection without regard to what goes on, and reports whether it had to be a reset.
func (c *conn) cut() (reset bool) {
	c.mu.Lock()
	c.closed = true
	gone, hijacked := c.gone.Load(), c.state == http.StateHijacked
	answering := c.answering()
	c.mu.Unlock()
	below := c.Conn
	if t, ok := below.(*tls.Conn); ok { // its own Close may wait until a farewell is written
		below = t.NetConn()
	}
	if !gone {
		reset = answering && resets(below)
		below.Close()
	}
	if hijacked {
		c.strike()
	}
	return reset
}

var _ net.Conn = (*conn)(nil)

// await waits until something is done, for some time at most. The ledger wakes it.
func (s *Server) await(limit time.Duration, done func() bool) {
	t := time.NewTimer(limit)
	defer t.Stop()
	for !done() {
		select {
		case <-s.ledger.wake:
		case <-t.C:
			return
		}
	}
}
