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
	// minScan is the least time from one scan of all connections to the next scan.
	minScan = 10 * time.Millisecond
	// progressTime is the time between two log lines. Each line says for how many connections and jobs the drain still waits.
	progressTime = 5 * time.Second
	// spread is the pause between the closes of two streams (WebSockets and event streams), so that the clients do not all come
	// back at once. The pause is shorter if closing all streams would take more than half of the rest of Grace.
	spread = 10 * time.Millisecond
)

// drain runs the drain if no other call has begun it, waits for its end, and returns its error.
func (s *Server) drain(handover bool) error {
	s.once.Do(func() {
		defer close(s.over)
		s.follow()
		s.err = s.run(handover)
	})
	logqueue.Flush(s.opts.Logger)
	return s.err
}

// follow waits until the server of Options.After has drained. The wait has a limit, since perhaps nothing stops that server.
func (s *Server) follow() {
	first := s.opts.After
	if first == nil {
		return
	}
	limit := first.opts.Grace + s.opts.Grace
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-first.over:
	case <-t.C:
		s.opts.Logger.Warn("drain: the server of Options.After has not drained", slog.Duration("waited", limit))
	}
}

// budget returns the time for the drain. Without Options.After, this is all of Grace. Otherwise it is the time that the server
// of Options.After has left of its own Grace. budget returns at least a tenth of the Grace of s, and at most all of it.
func (s *Server) budget() time.Duration {
	if s.opts.After == nil {
		return s.opts.Grace
	}
	left := time.Duration(0)
	if until, ok := s.opts.After.notice().Deadline(); ok {
		left = time.Until(until)
	}
	return min(max(left, s.opts.Grace/10), s.opts.Grace)
}

func (s *Server) run(handover bool) error {
	grace := s.budget()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	lame := s.begin(handover, grace)
	if s.opts.Move != nil && !readsAsKnown() {
		s.opts.Logger.Warn("drain: this net/http reads in an unknown way: idle connections are closed and not moved")
	}
	if rest := min(s.opts.Propagation, grace/2) - lame; !handover && rest > 0 {
		s.journal.pause()
		// No idle connection is closed during this pause: load balancers still use idle connections.
		<-time.After(rest)
	}
	s.journal.enter(draining)
	for _, l := range s.listeners.list() {
		if handover {
			l.stop()
			continue
		}
		l.sweep(s.course.latest)
	}
	s.announce(ctx)
	err := s.wait(ctx)
	s.closers.Wait()
	if s.opts.Flush != nil {
		s.journal.enter(flushing)
		if flushed := s.flush(); flushed != nil {
			err = errors.Join(err, flushed)
		}
	}
	r := s.journal.finish(err)
	if r.Took >= progressTime { // progress has logged lines about this drain, so the end of the drain is logged too
		s.opts.Logger.Info("drain: done", slog.Duration("took", r.Took), slog.Int("cut", len(r.Left)))
	}
	return err
}

// begin begins the drain, and returns how long the server had been a lame duck until then. In a handover it returns 0.
func (s *Server) begin(handover bool, grace time.Duration) (lame time.Duration) {
	now := time.Now()
	s.course.latest = now.Add(grace - min(lingerTime, grace/4))
	s.course.told.until, s.course.told.handover = now.Add(grace), handover
	if !handover {
		lame = s.readiness.stop()
	}
	s.journal.begin(handover)
	close(s.course.began)
	return lame
}

// flush calls Options.Flush.
func (s *Server) flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), max(time.Until(s.course.told.until), s.opts.Grace/10))
	defer cancel()
	if err := s.opts.Flush(ctx); err != nil {
		return fmt.Errorf("drain: flush: %w", err)
	}
	return nil
}

// announce announces the drain. Handlers and jobs learn of it by the Notice, and HTTP/2 connections get a GOAWAY. WebSockets
// and event streams are closed by their closers, with a pause between two closers. announce does not see a stream or an HTTP/2
// connection that begins after announce has listed the connections. Such a stream or connection still learns of the drain,
// because the code that begins it checks the stage.
func (s *Server) announce(ctx context.Context) {
	if s.opts.Announce != nil {
		s.opts.Announce(ctx)
	}
	close(s.course.told.begun)
	var all []closer
	for _, c := range s.registry.list() {
		h2, streams := c.closers()
		if h2 != nil {
			h2.leave()
		}
		all = append(all, streams...)
	}
	if len(all) == 0 {
		return
	}
	gap := min(spread, time.Until(s.course.latest)/2/time.Duration(len(all)))
	s.closers.Go(func() { // run waits for this goroutine, and the end of ctx ends it
		for i, c := range all {
			if i > 0 && !sleep(ctx, gap) {
				return
			}
			s.closers.Go(func() { c.closeGracefully(ctx) })
		}
	})
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// left returns how many accept loops there are, how many connections net/http owns, and how many entries the registry has
// in all. The loops are counted first: a loop registers its last connection before it ends, so no connection is missed.
func (s *Server) left() (loops, owned, all int) {
	loops = len(s.listeners.list())
	owned, all = s.registry.left()
	return loops, owned, all
}

// wait waits until everything has ended. If Grace runs out earlier, wait ends what is left. When net/http has no connection
// left and all accept loops have ended, wait calls Shutdown. An earlier Shutdown would drop requests. At this point Shutdown
// only starts the functions of RegisterOnShutdown, which may end hijacked connections. After the end of an accept loop, wait
// scans once more, since the loop may have accepted connections after the last scan.
func (s *Server) wait(ctx context.Context) error {
	hurry, told, known := s.opts.Hurry, false, 0
	scan, progress := time.NewTimer(0), time.NewTicker(progressTime)
	defer scan.Stop()
	defer progress.Stop()
	for {
		loops, owned, all := s.left()
		if owned == 0 && loops == 0 && !told {
			told = true
			s.http.Shutdown(ctx)
		}
		if told && all == 0 && s.registry.close(false) {
			return nil
		}
		if loops != known {
			known = loops
			scan.Reset(0)
		}
		select {
		case <-s.registry.wake:
		case <-scan.C:
			scan.Reset(s.scan())
		case <-hurry:
			hurry = nil
			s.course.hurried.Store(true)
			scan.Reset(s.scan())
		case <-progress.C:
			s.progress()
		case <-ctx.Done():
			x := expiry{http: s.http, course: s.course, registry: s.registry, journal: &s.journal, listeners: &s.listeners}
			return x.run(ctx, told, s.opts.Grace)
		}
	}
}

// scan calls consider for every connection, and returns the time until the next scan. A connection that becomes idle in this
// time needs no earlier scan. It is due at the next scan or later, or it is due at once. If it is due at once, the method rest
// interrupts its Read.
func (s *Server) scan() time.Duration {
	now := time.Now()
	next := now.Add(s.course.idleGrace())
	if latest := s.course.latest; now.Before(latest) && latest.Before(next) {
		next = latest
	}
	for _, c := range s.registry.list() {
		if due, ok := c.consider(now); ok && due.Before(next) {
			next = due
		}
	}
	return max(time.Until(next), minScan)
}

// progress logs how many connections and jobs the drain waits for.
func (s *Server) progress() {
	st := s.Status()
	s.opts.Logger.Info("drain: waiting", slog.String("phase", string(st.Phase)),
		slog.Duration("for", time.Since(st.Since)), slog.Duration("left", time.Until(s.course.told.until)),
		slog.Int("new", st.New), slog.Int("idle", st.Idle), slog.Int("active", st.Active),
		slog.Int("hijacked", st.Hijacked), slog.Int("closing", st.Closing), slog.Int("jobs", st.Jobs))
}
