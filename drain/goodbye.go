package drain

import (
	"context"
	"time"
)

// spread is how far apart goodbyes are, so that the clients do not come back all at once; less if there are so many that
// half of what is left of Grace would not do.
const spread = 10 * time.Millisecond

// A farewell is a stream that ends in its protocol's own way, when it is told.
type farewell interface {
	// goodbye tells it. It may wait for the client, and returns when ctx ends at the latest.
	goodbye(ctx context.Context)
}

// announce tells everything that goes on of the drain: handlers and jobs by the notice, HTTP/2 connections by GOAWAY, and
// one after the other WebSockets and event streams. What begins later looks at the stage by itself.
func (s *Server) announce(ctx context.Context) {
	if s.opts.Announce != nil {
		s.opts.Announce(ctx)
	}
	close(s.notice.begun)
	var all []farewell
	for _, c := range s.ledger.list() {
		h2, streams := c.farewells()
		if h2 != nil {
			h2.leave()
		}
		all = append(all, streams...)
	}
	if len(all) == 0 {
		return
	}
	gap := min(spread, time.Until(s.latest)/2/time.Duration(len(all)))
	s.partings.Go(func() { // run waits for it, and ctx ends it
		for i, f := range all {
			if i > 0 && !sleep(ctx, gap) {
				return
			}
			s.partings.Go(func() { f.goodbye(ctx) })
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

func (c *conn) farewells() (h2 *h2conn, streams []farewell) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ws != nil && !c.srv.opts.KeepWebSockets {
		streams = append(streams, c.ws)
	}
	for q := c.running; q != nil; q = q.next {
		if q.events != nil {
			streams = append(streams, q.events)
		}
	}
	return c.h2, streams
}
