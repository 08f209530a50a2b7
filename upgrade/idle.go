package upgrade

import (
	"context"
	"fmt"
	"time"
)

// How long a Request without a deadline waits for a service that does nothing: it may not be able to write the outcome.

// idleLimit is more than a service needs to begin an upgrade that it was asked for, and to record its outcome.
const idleLimit = 2 * time.Minute

// idleLook is how often Request looks whether an upgrade is under way.
const idleLook = 500 * time.Millisecond

// idle is for how long no upgrade was seen.
type idle struct {
	limit  time.Duration // 0: none
	since  time.Time     // when an upgrade was seen last, or when the first look was
	looked time.Time
}

// waitedInVain returns an error when no upgrade was under way for the limit.
func (q *asked) waitedInVain() error {
	now := time.Now()
	if q.idle.limit == 0 || now.Sub(q.idle.looked) < min(idleLook, q.idle.limit/4) {
		return nil
	}
	q.idle.looked = now
	if q.idle.since.IsZero() || q.service.Works(q.pid) {
		q.idle.since = now
	}
	if now.Sub(q.idle.since) < q.idle.limit {
		return nil
	}
	return fmt.Errorf("upgrade: no outcome after %v, and pid %d tries no upgrade: it may not be able to write %s.last, its log tells more: %w",
		now.Sub(q.at).Round(100*time.Millisecond), q.pid, q.file, q.withRefusal(context.DeadlineExceeded))
}
