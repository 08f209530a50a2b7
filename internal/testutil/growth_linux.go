package testutil

import (
	"math"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// MustGrowLinearly fails the test if work with many elements costs much more for each element than work with few elements. prepare
// returns the work with n elements. The cost is the processor time of the goroutine, so a busy machine does not matter. With 16
// times the elements, work that compares each element with all others costs 16 times as much for each element.
func MustGrowLinearly(t testing.TB, few int, prepare func(n int) (work func())) {
	t.Helper()
	const times, most = 16, 6
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	each := func(n int) time.Duration {
		best := time.Duration(math.MaxInt64)
		for range 5 {
			work := prepare(n)
			runtime.GC()
			before := threadTime()
			work()
			best = min(best, threadTime()-before)
		}
		return best / time.Duration(n)
	}
	small, large := each(few), each(times*few)
	t.Logf("%v for each of %d, %v for each of %d", small, few, large, times*few)
	if large > most*max(small, 100*time.Nanosecond) {
		t.Errorf("the cost of each of %d is %v, and of each of %d %v: it grows with their number", few, small, times*few, large)
	}
}

// threadTime returns the processor time of the calling thread.
func threadTime() time.Duration {
	var at unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at) != nil {
		return 0
	}
	return time.Duration(at.Nano())
}
