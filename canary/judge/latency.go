package judge

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// baseline is the number of durations of stable from which the thresholds are taken.
const baseline = 1000

// quantiles are those of the durations of stable that are thresholds.
var quantiles = []float64{.50, .90, .99}

// cuts are the thresholds of the latency: one for each of the quantiles, and the absolute one. A threshold of 0 is not known.
type cuts [4]time.Duration

// exceeded returns the set of the kinds of events that a request had between the durations from and to: it took longer than a
// threshold. As a threshold never changes, and was known before the request was counted, the exceedance of a threshold is an
// event like a failure, and logE tests it without any assumption about the distribution of the latency.
func (c *cuts) exceeded(from, to time.Duration) (set uint) {
	for i, cut := range c {
		if cut > 0 && from <= cut && cut < to {
			set |= 1 << (slow + i)
		}
	}
	return set
}

// A latency learns the thresholds from the first durations of stable, and never changes a threshold after that. If thresholds
// moved, the first exceedance of a unit would depend on when the unit had come.
type latency struct {
	cuts   atomic.Pointer[cuts]
	n      atomic.Int64 // durations that have a place in sample
	sample [baseline]atomic.Int64
}

func newLatency(absolute time.Duration) *latency {
	l := new(latency)
	l.cuts.Store(&cuts{len(cuts{}) - 1: absolute})
	return l
}

// learn adds a duration of stable. The last one makes the thresholds.
func (l *latency) learn(took time.Duration) {
	if l.n.Load() >= baseline || l.cuts.Load()[0] > 0 {
		return
	}
	i := l.n.Add(1) - 1
	if i >= baseline {
		return
	}
	l.sample[i].Store(int64(max(took, 1)))
	if i == baseline-1 {
		l.adopt(l.learned())
	}
}

// learned returns the thresholds from the sample. Durations that other goroutines are about to store are missing.
func (l *latency) learned() (c cuts) {
	var sorted []int64
	for i := range l.sample {
		if d := l.sample[i].Load(); d > 0 {
			sorted = append(sorted, d)
		}
	}
	slices.Sort(sorted)
	for i, q := range quantiles {
		c[i] = time.Duration(sorted[int(math.Ceil(q*float64(len(sorted))))-1])
	}
	return c
}

// adopt takes over each threshold that is not known yet.
func (l *latency) adopt(c cuts) {
	for {
		old := l.cuts.Load()
		merged := *old
		for i := range merged {
			if merged[i] == 0 {
				merged[i] = c[i]
			}
		}
		if l.cuts.CompareAndSwap(old, &merged) {
			return
		}
	}
}
