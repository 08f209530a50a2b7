package judge

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// scale is the number of steps into which weights are divided: 1/scale is the least weight at which there is evidence.
const scale = 10_000_000

// quantise returns the weight in steps of 1/scale, rounded to the nearest step. Rounding up would be safe for a Regression only:
// a Pass, the interval of the risk and the test of the assignment would suppose too many events of the canary.
//
// A weight that is a multiple of 1/scale is exact. Of other weights the odds are wrong by at most 5e-8 / weight: by 0.05 % at a
// weight of 0.01 %, which is a relative risk of 1.0005 in place of 1. An event adds in the mean at most weight error^2 / 2 to the
// logarithm of the evidence for this difference, which is about 1 after 10^11 events.
func quantise(weight float64) int {
	switch {
	case !(weight > 0):
		return 0
	case weight >= 1:
		return scale
	}
	return int(math.Round(weight * scale))
}

// randomised reports whether the weight has drawn between the sides. At 0 and at 1, an event says nothing about the sides.
func randomised(weight int) bool { return 0 < weight && weight < scale }

// The kinds of events. Each has a test, and the kinds from slow on are the thresholds of the latency.
const (
	badKind = iota
	panicKind
	slow                          // not answered well within p50, p90 and p99 of stable, and the absolute threshold
	assigned = slow + len(cuts{}) // a unit or a request was assigned
	kinds    = assigned + 1
)

// counters is the number of counters at a weight: for each side the requests that have ended, the events of each kind, and the
// events of each kind that are frozen, which are those of units that have left the set of units (see units).
const counters = 2 * (1 + 2*kinds)

func requestsOf(canary bool) int {
	if canary {
		return 1
	}
	return 0
}

func eventsOf(kind int, canary bool) int { return 2*(1+kind) + requestsOf(canary) }

func frozenOf(kind int, canary bool) int { return eventsOf(kinds+kind, canary) }

// A step has the counters of one process at one weight. Counters only rise.
type step struct {
	weight int
	n      [counters]atomic.Uint64
}

// raise makes a counter at least n.
func (s *step) raise(counter int, n uint64) {
	for {
		old := s.n[counter].Load()
		if old >= n || s.n[counter].CompareAndSwap(old, n) {
			return
		}
	}
}

// steps are the counters of one process, in the order of the weights. The step of weight 0 counts the requests that were left
// out. The slice is replaced, and not changed, if a weight is added, so that a counter is found without a lock.
type steps struct {
	mu  sync.Mutex // held while a weight is added
	all atomic.Pointer[[]*step]
}

func (s *steps) list() []*step {
	if all := s.all.Load(); all != nil {
		return *all
	}
	return nil
}

func byWeight(s *step, weight int) int { return cmp.Compare(s.weight, weight) }

// at returns the counters of a weight.
func (s *steps) at(weight int) *step {
	all := s.list()
	if i, ok := slices.BinarySearchFunc(all, weight, byWeight); ok {
		return all[i]
	}
	return s.add(weight)
}

// add returns the counters of a weight that was missing a moment ago.
func (s *steps) add(weight int) *step {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.list()
	i, ok := slices.BinarySearchFunc(all, weight, byWeight)
	if ok {
		return all[i]
	}
	more := slices.Insert(slices.Clone(all), i, &step{weight: weight})
	s.all.Store(&more)
	return more[i]
}

// join raises the counters to those of another copy, but for the kinds of events that mean something else there.
func (s *steps) join(other *steps, usable [kinds]bool) {
	for _, from := range other.list() {
		to := s.at(from.weight)
		for i := range from.n {
			if i < eventsOf(0, false) || usable[(i/2-1)%kinds] {
				to.raise(i, from.n[i].Load())
			}
		}
	}
}

// rows returns a copy of the counters.
func (s *steps) rows() (t tally) {
	for _, from := range s.list() {
		t = append(t, from.row())
	}
	return t
}

func (s *step) row() count {
	c := count{weight: s.weight}
	for i := range c.n {
		c.n[i] = s.n[i].Load()
	}
	return c
}
