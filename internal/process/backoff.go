package process

import "time"

// Backoff is how long to wait before a failed process is started again.
type Backoff struct {
	First, Most time.Duration
}

// Pause returns how long to wait after n failures in a row: nothing after the first, then First, and twice as long each
// time, up to Most.
func (b Backoff) Pause(n int) time.Duration {
	if n < 2 {
		return 0
	}
	return min(b.First<<min(n-2, 20), b.Most)
}
