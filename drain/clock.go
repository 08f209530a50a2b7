package drain

import "time"

// started is the time from which the function instant counts.
var started = time.Now()

// instant returns the present time. It reads only the monotonic clock, and so takes half as long as time.Now: two readings of
// the clock are a large part of what package drain adds to a request. The wall clock in the result is wrong if the wall clock
// was set after the start of the process, so shownTime has to be called before the result is shown.
func instant() time.Time { return started.Add(time.Since(started)) }

// shownTime corrects the wall clock in a result of instant.
func shownTime(t time.Time) time.Time {
	now := time.Now()
	return now.Add(t.Sub(now))
}
