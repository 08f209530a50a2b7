package drain

import "time"

// A moment is a time of the monotonic clock, in nanoseconds since started. A connection notes two moments for each request, and
// reading a moment takes half as long as time.Now, which reads the wall clock too. The zero value means that there is no time.
type moment int64

// started is the time from which moments count.
var started = time.Now()

// instant returns the present moment.
func instant() moment { return moment(time.Since(started)) }

// time returns the moment as a time for comparisons with other times of this process. If the wall clock was set after the start
// of the process, the wall clock in the result is wrong.
func (m moment) time() time.Time { return started.Add(time.Duration(m)) }

// shown returns the moment as a time for people.
func (m moment) shown() time.Time {
	now := time.Now()
	return now.Add(m.time().Sub(now))
}
