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

// exceeded returns the set of the thresholds within which a request was not answered well, but for those of the last report.
//
// The event of a threshold is that of an objective for the latency: a request that has failed was not answered in time, however
// soon it failed. If only slow requests were events, a canary that repairs requests which fail at once would look slow. A request
// that is still running at the threshold is an event. As a threshold never changes, and was known before the request was counted,
// its event is one like a failure, and logE tests it without any assumption about the distribution of the latency.
func (c *cuts) exceeded(o *Outcome) (set uint) {
	for i, cut := range c {
		if cut == 0 || o.Reported >= cut {
			continue
		}
		failed, running := !o.Running && o.Result != Good, o.Running && o.Took == cut
		if o.Took > cut || failed || running {
			set |= 1 << (slow + i)
		}
	}
	return set
}

// A latency learns the thresholds from the first durations of good requests of stable, and never changes a threshold after that.
// If thresholds moved, the first event of a unit would depend on when the unit had come.
type latency struct {
	fast   time.Duration // the least threshold
	cuts   atomic.Pointer[cuts]
	n      atomic.Int64 // durations that have a place in sample
	sample [baseline]atomic.Int64
}

func newLatency(absolute, fast time.Duration) *latency {
	l := &latency{fast: fast}
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

// learned returns the thresholds from the sample.
func (l *latency) learned() (c cuts) {
	sorted := l.durations()
	slices.Sort(sorted)
	for i, q := range quantiles {
		c[i] = max(l.fast, sorted[int(math.Ceil(q*float64(len(sorted))))-1])
	}
	return c
}

// durations returns the sample. Durations that other goroutines are about to store are missing.
func (l *latency) durations() (all []time.Duration) {
	for i := range l.sample {
		if d := l.sample[i].Load(); d > 0 {
			all = append(all, time.Duration(d))
		}
	}
	return all
}

// resume goes on with the sample of another process: with the part of it that is longer than the own sample, so that a sample
// which comes twice counts once.
func (l *latency) resume(sample []time.Duration) {
	if n := l.n.Load(); n < int64(len(sample)) {
		for _, d := range sample[n:] {
			l.learn(d)
		}
	}
}

// adopt takes over each threshold that is not known yet.
func (l *latency) adopt(c cuts) {
	l.change(func(i int, old time.Duration) time.Duration {
		if old == 0 {
			return c[i]
		}
		return old
	})
}

// setAbsolute replaces the absolute threshold. It must not have had an event.
func (l *latency) setAbsolute(threshold time.Duration) {
	l.change(func(i int, old time.Duration) time.Duration {
		if i == len(cuts{})-1 {
			return threshold
		}
		return old
	})
}

func (l *latency) change(to func(i int, old time.Duration) time.Duration) {
	for {
		old := l.cuts.Load()
		next := *old
		for i := range next {
			next[i] = to(i, next[i])
		}
		if l.cuts.CompareAndSwap(old, &next) {
			return
		}
	}
}
