package process

import "time"

// Backoff has the times to wait before a process that has failed is replaced. First is the time after the second failure in a
// row, and Most is the longest time.
type Backoff struct {
	First, Most time.Duration
}

// Pause returns how long to wait after n failures in a row: 0 after the first failure, First after the second, and twice as
// long after each further failure, but at most Most.
func (b Backoff) Pause(n int) time.Duration {
	if n < 2 {
		return 0
	}
	return min(b.First<<min(n-2, 20), b.Most)
}
