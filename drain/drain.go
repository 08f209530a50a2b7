package drain

import (
	"context"
	"log/slog"
	"time"
)

const (
	// lookAgain bounds how often a drain looks at all connections when IdleGrace is tiny.
	lookAgain = 10 * time.Millisecond
	// partingTime is how long handlers have to return after Grace ran out and their connections were closed.
	partingTime = 500 * time.Millisecond
)

// drain runs the drain, or waits for the end of the one that runs.
func (s *Server) drain(handover bool) error {
	s.once.Do(func() { s.err = s.run(handover) })
	return s.err
}

func (s *Server) run(handover bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Grace)
	defer cancel()
	s.begin(handover)
	if !handover {
		s.propagate(ctx)
	}
	s.set(Draining)
	s.eager.Store(s.opts.Move != nil)
	for _, l := range s.accepting() {
		if handover {
			l.stop()
			continue
		}
		l.sweep()
	}
	err := s.wait(ctx)
	s.set(Drained)
	return err
}

func (s *Server) begin(handover bool) {
	s.closing.Store(true)
	s.unready.Store(!handover)
	s.mu.Lock()
	s.phase, s.since = Propagating, time.Now()
	s.mu.Unlock()
	close(s.began)
}

func (s *Server) set(p Phase) {
	s.mu.Lock()
	s.phase = p
	s.mu.Unlock()
}

// propagate waits until load balancers know. No idle connection is closed meanwhile: they still use them.
func (s *Server) propagate(ctx context.Context) {
	if s.opts.Propagation <= 0 {
		return
	}
	t := time.NewTimer(s.opts.Propagation)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *Server) accepting() []*listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*listener, 0, len(s.listeners))
	for l := range s.listeners {
		all = append(all, l)
	}
	return all
}

// wait returns when everything has ended or Grace has. Shutdown is called when net/http has no connection and no
// accept loop left, since it would drop requests before; it then only starts the functions of RegisterOnShutdown,
// which may be what makes hijacked connections end.
func (s *Server) wait(ctx context.Context) error {
	hurry, told := s.opts.Hurry, false
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		owned, all := s.ledger.left()
		if owned == 0 && !told && len(s.accepting()) == 0 {
			told = s.http.Shutdown(ctx) == nil
		}
		if told && all == 0 {
			return nil
		}
		select {
		case <-s.ledger.wake:
		case <-look.C:
			look.Reset(s.scan())
		case <-hurry:
			hurry = nil
			s.hurried.Store(true)
			s.eager.Store(true)
			look.Reset(s.scan())
		case <-ctx.Done():
			return s.expire()
		}
	}
}

// scan asks the connections that are due to leave, and says when the next will be. One that becomes idle after the
// scan is due later than the next scan.
func (s *Server) scan() time.Duration {
	now := time.Now()
	next := now.Add(s.opts.IdleGrace)
	for _, c := range s.ledger.list() {
		if due, ok := c.consider(now); ok && due.Before(next) {
			next = due
		}
	}
	return max(time.Until(next), lookAgain)
}

// expire closes what is left.
func (s *Server) expire() error {
	e := &TimeoutError{Grace: s.opts.Grace}
	conns := s.ledger.list()
	for _, c := range conns {
		if l, ok := c.leftover(); ok {
			e.Left = append(e.Left, l)
		}
	}
	s.report(e.Left)
	for _, c := range conns {
		c.cut()
	}
	s.http.Close()
	s.part()
	if len(e.Left) == 0 {
		return nil
	}
	return e
}

func (s *Server) report(left []Leftover) {
	for _, l := range left[:min(len(left), listed)] {
		s.opts.Logger.Warn("drain: closed before it ended",
			slog.String("remote", l.Remote), slog.String("state", l.State),
			slog.Duration("for", time.Since(l.Since)), slog.String("request", l.Request))
	}
	if more := len(left) - listed; more > 0 {
		s.opts.Logger.Warn("drain: closed before they ended", slog.Int("more", more))
	}
}

// part waits for the handlers, whose contexts have been cancelled by the end of their connections.
func (s *Server) part() {
	t := time.NewTimer(partingTime)
	defer t.Stop()
	for {
		if owned, _ := s.ledger.left(); owned == 0 {
			return
		}
		select {
		case <-s.ledger.wake:
		case <-t.C:
			return
		}
	}
}
