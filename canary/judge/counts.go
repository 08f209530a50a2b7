package judge

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// scale is the number of steps into which weights are divided: 1/scale is the least weight at which there is evidence.
const scale = 10_000

// quantise returns the weight in steps of 1/scale, rounded up. The true weight is not greater, so an event of the canary is never
// less likely under the null hypothesis than the test supposes: rounding costs power, not validity. A weight that is a multiple
// of 1/scale is exact: the small number below is for the noise of a float.
func quantise(weight float64) int {
	switch {
	case !(weight > 0):
		return 0
	case weight >= 1:
		return scale
	}
	return int(math.Ceil(weight*scale - 1e-6))
}

// randomised reports whether the weight has drawn between the sides. At 0 and at 1, an event says nothing about the sides.
func randomised(weight int) bool { return 0 < weight && weight < scale }

// The kinds of events. Each has a test, and the kinds from slow on are the thresholds of the latency.
const (
	badKind = iota
	panicKind
	slow                          // p50, p90 and p99 of stable, and the absolute threshold
	assigned = slow + len(cuts{}) // a unit or a request was assigned
	kinds    = assigned + 1
)

// counters is the number of counters at a weight: for each side, the requests and the events of each kind.
const counters = 2 * (1 + kinds)

func requestsOf(canary bool) int {
	if canary {
		return 1
	}
	return 0
}

func eventsOf(kind int, canary bool) int { return 2*(1+kind) + requestsOf(canary) }

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
func (s *steps) join(rows tally, usable [kinds]bool) {
	for _, c := range rows {
		to := s.at(c.weight)
		for i, n := range c.n {
			if i < eventsOf(0, false) || usable[i/2-1] {
				to.raise(i, n)
			}
		}
	}
}

// A count has the sums of all processes at one weight.
type count struct {
	weight int
	n      [counters]uint64
}

// A tally has a count for each weight, in the order of the weights. The evidence is a function of a tally, so two processes with
// the same tally have the same evidence to the last bit. Sums of floats would depend on the order of the events.
type tally []count

// at returns the count of a weight, which is added if it is missing.
func (t *tally) at(weight int) *count {
	i, ok := slices.BinarySearchFunc(*t, weight, func(c count, w int) int { return cmp.Compare(c.weight, w) })
	if !ok {
		*t = slices.Insert(*t, i, count{weight: weight})
	}
	return &(*t)[i]
}

// add adds the counters of a process.
func (t *tally) add(s *steps) {
	for _, from := range s.list() {
		to := t.at(from.weight)
		for i := range to.n {
			to.n[i] += from.n[i].Load()
		}
	}
}

// drawn returns the counts of the weights that have drawn.
func (t tally) drawn() tally {
	if len(t) > 0 && !randomised(t[0].weight) {
		return t[1:]
	}
	return t
}

// labels returns the events of a kind at each weight that has drawn.
func (t tally) labels(kind int) (all []labels) {
	for _, c := range t.drawn() {
		all = append(all, labels{
			weight: float64(c.weight) / scale,
			canary: float64(c.n[eventsOf(kind, true)]),
			stable: float64(c.n[eventsOf(kind, false)]),
		})
	}
	return all
}

// sum returns the sum of a counter over all weights that have drawn.
func (t tally) sum(counter int) (n uint64) {
	for _, c := range t.drawn() {
		n += c.n[counter]
	}
	return n
}

// oneSided reports whether requests of one side only were left out.
func (t tally) oneSided() bool {
	if len(t) == 0 || randomised(t[0].weight) {
		return false
	}
	left := t[0].n
	return (left[requestsOf(true)] == 0) != (left[requestsOf(false)] == 0)
}
