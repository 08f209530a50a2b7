package drain

import (
	"context"
	"log/slog"
	"time"
)

const (
	// lookAgain bounds how often a drain looks at all connections when IdleGrace is tiny.
	lookAgain = 10 * time.Millisecond
	// partingTime is how long accept loops and handlers have to return after Grace ran out.
	partingTime = 500 * time.Millisecond
)

// A stage is how far the drain is: a Phase, and where the code needs it finer than that. It only rises.
type stage int32

const (
	serving stage = iota
	propagating
	draining
	expired // Grace ran out: a Close closes, it does not wait for the client
	drained
)

func (s *Server) at() stage { return stage(s.stage.Load()) }

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
		s.propagate()
	}
	s.stage.Store(int32(draining))
	s.dismiss()
	for _, l := range s.accepting() {
		if handover {
			l.stop()
			continue
		}
		l.sweep(s.latest)
	}
	err := s.wait(ctx)
	s.stage.Store(int32(drained))
	return err
}

func (s *Server) begin(handover bool) {
	now := time.Now()
	s.latest = now.Add(s.opts.Grace - min(lingerTime, s.opts.Grace/4))
	s.unready.Store(!handover)
	s.mu.Lock()
	s.since = now
	s.stage.Store(int32(propagating))
	s.mu.Unlock()
	close(s.began)
}

// propagate is the time as a lame duck. No idle connection is closed meanwhile: load balancers still use them.
func (s *Server) propagate() {
	if s.opts.Propagation > 0 {
		<-time.After(min(s.opts.Propagation, s.opts.Grace/2))
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

// dismiss begins the end of the HTTP/2 connections. Those that come later begin it themselves.
func (s *Server) dismiss() {
	for _, c := range s.ledger.list() {
		c.mu.Lock()
		h2 := c.h2
		c.mu.Unlock()
		if h2 != nil {
			h2.leave()
		}
	}
}

// left says how many accept loops there are, how many connections net/http has, and how many there are in all. The
// loops are read first: what the last of them accepted is in the ledger before it ends.
func (s *Server) left() (loops, owned, all int) {
	loops = len(s.accepting())
	owned, all = s.ledger.left()
	return loops, owned, all
}

// wait returns when everything has ended or Grace has. Shutdown is called when net/http has no connection and no
// accept loop left, since it would drop requests before; it then only starts the functions of RegisterOnShutdown,
// which may be what makes hijacked connections end. What an accept loop took after the last scan is looked at when the
// loop ends.
func (s *Server) wait(ctx context.Context) error {
	hurry, told, known := s.opts.Hurry, false, 0
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		loops, owned, all := s.left()
		if owned == 0 && loops == 0 && !told {
			told = true
			s.http.Shutdown(ctx)
		}
		if told && all == 0 {
			return nil
		}
		if loops != known {
			known = loops
			look.Reset(0)
		}
		select {
		case <-s.ledger.wake:
		case <-look.C:
			look.Reset(s.scan())
		case <-hurry:
			hurry = nil
			s.hurried.Store(true)
			look.Reset(s.scan())
		case <-ctx.Done():
			return s.expire(ctx, told)
		}
	}
}

// scan asks the connections that are due to leave, and says when the next will be. One that becomes idle after the
// scan is due later than the next scan, or is asked as it becomes idle.
func (s *Server) scan() time.Duration {
	now := time.Now()
	next := now.Add(s.opts.IdleGrace)
	if now.Before(s.latest) && s.latest.Before(next) {
		next = s.latest
	}
	for _, c := range s.ledger.list() {
		if due, ok := c.consider(now); ok && due.Before(next) {
			next = due
		}
	}
	return max(time.Until(next), lookAgain)
}

// expire closes what is left. No loop accepts any more when it lists that, and no function of RegisterOnShutdown goes
// without its call, unless told says that all had it.
func (s *Server) expire(ctx context.Context, told bool) error {
	s.stage.Store(int32(expired))
	for _, l := range s.accepting() {
		l.stop()
	}
	s.await(func() bool { return len(s.accepting()) == 0 })
	e := &TimeoutError{Grace: s.opts.Grace}
	conns := s.ledger.list()
	for _, c := range conns {
		if l, ok := c.leftover(); ok {
			e.Left = append(e.Left, l)
		}
	}
	s.report(e.Left)
	if !told {
		s.http.Shutdown(ctx)
	}
	for _, c := range conns {
		c.cut()
	}
	s.http.Close()
	s.await(func() bool { owned, _ := s.ledger.left(); return owned == 0 }) // the cut has cancelled their contexts
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

// await waits until something is done, for partingTime at most. The ledger wakes it.
func (s *Server) await(done func() bool) {
	t := time.NewTimer(partingTime)
	defer t.Stop()
	for !done() {
		select {
		case <-s.ledger.wake:
		case <-t.C:
			return
		}
	}
}
