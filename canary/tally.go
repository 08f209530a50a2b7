package canary

import (
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"
)

// OutcomeStatus counts the outcomes of a side in this process.
type OutcomeStatus struct {
	// Ended is how many requests have ended.
	Ended uint64 `json:"ended"`
	// Bad is how many of them Options.Bad calls bad.
	Bad uint64 `json:"bad"`
	// TimedOut is how many of them ended after their deadline.
	TimedOut uint64 `json:"timed_out"`
	// Canceled is how many of them were canceled, see the flag of an Outcome.
	Canceled uint64 `json:"canceled"`
	// Bytes is the sum of Outcome.Bytes.
	Bytes uint64 `json:"bytes"`
	// P50, P90 and P99 are quantiles of the durations: half of the handlers took at most P50. Each is at most an eighth too high.
	// Durations below 1.024 µs count as 1.024 µs, and those above 73 minutes as 73 minutes.
	P50 time.Duration `json:"p50_ns"`
	P90 time.Duration `json:"p90_ns"`
	P99 time.Duration `json:"p99_ns"`
}

// A tally counts the outcomes of a side. It is in shards, and each outcome goes to a random one, so that processors seldom write to
// the same cache line.
type tally struct{ shards []shard }

type shard struct {
	bad, timedOut, canceled, bytes atomic.Uint64
	durations                      histogram
	_                              [64]byte // the next shard begins on another cache line
}

// mostShards bounds the memory: a shard has two kilobytes.
const mostShards = 16

// newShards makes the next power of two from four shards for each processor, and at most mostShards.
func newShards() []shard {
	n := 4
	for n < min(4*runtime.GOMAXPROCS(0), mostShards) {
		n *= 2
	}
	return make([]shard, n)
}

func (t *tally) add(o *Outcome, bad bool) {
	s := &t.shards[rand.Uint32()&uint32(len(t.shards)-1)]
	s.durations[bucketOf(o.Duration)].Add(1)
	if o.Bytes > 0 {
		s.bytes.Add(uint64(o.Bytes))
	}
	if bad {
		s.bad.Add(1)
	}
	if o.Has(TimedOut) {
		s.timedOut.Add(1)
	}
	if o.Has(Canceled) {
		s.canceled.Add(1)
	}
}

func (t *tally) status() *OutcomeStatus {
	var out OutcomeStatus
	var all [buckets]uint64
	for i := range t.shards {
		s := &t.shards[i]
		out.Bad += s.bad.Load() // before Ended: never more bad than ended
		out.TimedOut += s.timedOut.Load()
		out.Canceled += s.canceled.Load()
		out.Bytes += s.bytes.Load()
		for b := range all {
			n := s.durations[b].Load()
			all[b] += n
			out.Ended += n
		}
	}
	out.P50, out.P90, out.P99 = quantile(&all, out.Ended, 50), quantile(&all, out.Ended, 90), quantile(&all, out.Ended, 99)
	return &out
}

// A histogram counts durations in buckets of which each is an eighth of a power of two wide: the layout of HdrHistogram, with three
// bits. The first bucket is for less than 1.024 µs, the last for 73 minutes and more.
type histogram [buckets]atomic.Uint64

const (
	subBits = 3  // a power of two has 1<<subBits buckets
	lowest  = 10 // the first bucket ends at 1<<lowest nanoseconds
	highest = 42 // the last one begins at 1<<highest nanoseconds
	buckets = (highest-lowest)<<subBits + 2
)

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	power := bits.Len64(n) - 1
	switch {
	case power < lowest:
		return 0
	case power >= highest:
		return buckets - 1
	}
	return 1 + (power-lowest)<<subBits + int(n>>(power-subBits))&(1<<subBits-1)
}

// endOf is where a bucket ends. That of the last one is where it begins.
func endOf(bucket int) time.Duration {
	power, part := bucket>>subBits+lowest, bucket&(1<<subBits-1)
	return time.Duration(1<<power + part<<(power-subBits))
}

// quantile returns the end of the first bucket up to which at least percent % of the n durations lie, and 0 if there are none.
func quantile(all *[buckets]uint64, n uint64, percent uint64) time.Duration {
	rank := (n*percent + 99) / 100
	for b, seen := 0, uint64(0); b < buckets && rank > 0; b++ {
		if seen += all[b]; seen >= rank {
			return endOf(min(b, buckets-2))
		}
	}
	return 0
}
