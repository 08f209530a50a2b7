package upgrade

import "time"

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

// over reports whether no upgrade was under way for the limit.
func (i *idle) over(works func() bool) bool {
	now := time.Now()
	if i.limit == 0 || now.Sub(i.looked) < min(idleLook, i.limit/4) {
		return false
	}
	i.looked = now
	if i.since.IsZero() || works() {
		i.since = now
	}
	return now.Sub(i.since) >= i.limit
}
