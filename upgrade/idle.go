package upgrade

import "time"

// The limit for a Request whose context has no deadline. If the service tries no upgrade, or cannot write the outcome, such a
// Request would wait for ever without the limit.

// idleLimit is how long Request waits while no upgrade is under way. A service needs less time to begin a requested upgrade,
// and to record the outcome.
const idleLimit = 2 * time.Minute

// idleLook is how often Request looks whether an upgrade is under way.
const idleLook = 500 * time.Millisecond

// idle measures how long no upgrade was under way.
type idle struct {
	limit  time.Duration // 0: no limit
	since  time.Time     // when a look last found an upgrade; if no look has found an upgrade, the time of the first look
	looked time.Time     // the time of the last look
}

// over reports whether no upgrade was under way for at least the limit. The argument works is a function that reports whether
// an upgrade is under way now. A call of this function is a look. Between two looks, idleLook passes, or a quarter of the limit
// if that is shorter. If over is called before the next look is due, it returns false.
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
