package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
)

const (
	// lookAgain bounds how often a drain looks at all connections when IdleGrace is tiny.
	lookAgain = 10 * time.Millisecond
	// progressTime is how often a drain that lasts says in the log what it waits for.
	progressTime = 5 * time.Second
)

// drain runs the drain, or waits for the end of the one that runs.
func (s *Server) drain(handover bool) error {
	s.once.Do(func() {
		defer close(s.over)
		s.follow()
		s.err = s.run(handover)
	})
	logqueue.Flush(s.opts.Logger)
	return s.err
}

// follow waits until the server that goes first has drained. One that is never told to would hold this one for ever.
func (s *Server) follow() {
	first := s.opts.After
	if first == nil {
		return
	}
	t := time.NewTimer(first.opts.Grace + s.opts.Grace)
	defer t.Stop()
	select {
	case <-first.over:
	case <-t.C:
		s.opts.Logger.Warn("drain: the server of Options.After has not drained", slog.Duration("waited", first.opts.Grace+s.opts.Grace))
	}
}

// budget is what is left for this server: all of Grace, or what a server that went first has left of its own, but never
// less than a tenth.
func (s *Server) budget() time.Duration {
	if s.opts.After == nil {
		return s.opts.Grace
	}
	left := time.Duration(0)
	if until, ok := s.opts.After.notice.Deadline(); ok {
		left = time.Until(until)
	}
	return min(max(left, s.opts.Grace/10), s.opts.Grace)
}

func (s *Server) run(handover bool) error {
	grace := s.budget()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	s.begin(handover, grace)
	if s.opts.Move != nil && !readsAsKnown() {
		s.opts.Logger.Warn("drain: this net/http reads in an unknown way: idle connections are closed and not moved")
	}
	if !handover {
		s.propagate(grace)
	}
	s.enterStage(draining)
	for _, l := range s.accepting() {
		if handover {
			l.stop()
			continue
		}
		l.sweep(s.latest)
	}
	s.announce(ctx)
	err := s.wait(ctx)
	s.partings.Wait()
	if s.opts.Flush != nil {
		s.enterStage(flushing)
		if flushed := s.flush(); flushed != nil {
			err = errors.Join(err, flushed)
		}
	}
	s.finish(err)
	return err
}

func (s *Server) begin(handover bool, grace time.Duration) {
	now := time.Now()
	s.latest = now.Add(grace - min(lingerTime, grace/4))
	s.notice.until, s.notice.handover = now.Add(grace), handover
	s.unready.Store(!handover)
	if !handover {
		s.ready(false)
	}
	s.mu.Lock()
	s.since = now
	s.mu.Unlock()
	s.enterStage(propagating)
	close(s.began)
}

// propagate is the time as a lame duck. No idle connection is closed meanwhile: load balancers still use them. An operator
// may have begun it earlier.
func (s *Server) propagate(grace time.Duration) {
	s.mu.Lock()
	lame := s.lameSince
	s.mu.Unlock()
	rest := min(s.opts.Propagation, grace/2)
	if !lame.IsZero() {
		rest -= time.Since(lame)
	}
	if rest > 0 {
		<-time.After(rest)
	}
}

// flush is the time for what must not be lost and may come from what has just ended.
func (s *Server) flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), max(time.Until(s.notice.until), s.opts.Grace/10))
	defer cancel()
	if err := s.opts.Flush(ctx); err != nil {
		return fmt.Errorf("drain: flush: %w", err)
	}
	return nil
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

// left says how many accept loops there are, how many connections net/http has, and how much there is in all. The
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
	look, progress := time.NewTimer(0), time.NewTicker(progressTime)
	defer look.Stop()
	defer progress.Stop()
	for {
		loops, owned, all := s.left()
		if owned == 0 && loops == 0 && !told {
			told = true
			s.http.Shutdown(ctx)
		}
		if told && all == 0 && s.ledger.close(false) {
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
		case <-progress.C:
			s.progress()
		case <-ctx.Done():
			return s.expire(ctx, told)
		}
	}
}

// idleGrace is how long an idle connection has.
func (s *Server) idleGrace() time.Duration {
	if s.hurried.Load() {
		return min(s.opts.IdleGrace, hurriedGrace)
	}
	return s.opts.IdleGrace
}

// scan asks the connections that are due to leave, and says when the next will be. One that becomes idle after the
// scan is due later than the next scan, or is asked as it becomes idle.
func (s *Server) scan() time.Duration {
	now := time.Now()
	next := now.Add(s.idleGrace())
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
