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

const (
	// exactSteps is the number of weights of which a process has counters, before it rounds a new weight up to two digits.
	exactSteps = 64
	// maxSteps is the greatest number of weights of which a process has counters: the exact ones, those of two digits (9 of one
	// digit, and 90 for each of six powers of ten), the greatest weight that draws, and 0. A state may have twice as many.
	maxSteps = exactSteps + 9 + 6*90 + 1 + 1
)

// coarse returns the weight, rounded up to two digits. A weight that draws stays one: it is less than 1.
//
// A weight that rises with each request would have as many counters as there are requests. To leave such requests out would make
// the judge blind, and so would a share of them, since each process would choose others. To round up is safe for a Regression:
// each factor of logE falls with the weight, for an event of the canary and for one of stable. So whichever events are counted at
// a greater weight, and whatever decides on that, the evidence is at most that of the exact weights. (For alternatives below r0
// the factors rise with the weight: see tally.rounded.)
func coarse(weight int) int {
	digit := 1
	for weight/digit >= 100 {
		digit *= 10
	}
	return min((weight+digit-1)/digit*digit, scale-1)
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
// events of each kind that are frozen, which are those of units that have left the set of units (see units). Beside these, each
// bad outcome of the canary is counted, also one that is no evidence, and also one that waits.
const counters = 2 * (2 + 2*kinds)

// The bad outcomes of the canary.
const (
	failedEnded   = 2 + iota // bad outcomes of requests of the canary that have ended
	failedRunning            // and of requests that were still running
)

func requestsOf(canary bool) int {
	if canary {
		return 1
	}
	return 0
}

func eventsOf(kind int, canary bool) int { return 2*(2+kind) + requestsOf(canary) }

func frozenOf(kind int, canary bool) int { return eventsOf(kinds+kind, canary) }

// roundedOf is a counter of the step of weight 0: the outcomes and assignments at a weight that was rounded up.
func roundedOf(canary bool) int { return eventsOf(assigned, canary) }

// A step has the counters of one process at one weight. Counters only rise.
type step struct {
	weight int
	n      [counters]atomic.Uint64
	sent   uint64 // the sum of the counters in the last delta that had them; guarded by the lock of the evidence
}

// ended counts a request that has ended, and a bad outcome of the canary. The request is counted before its outcome.
func (s *step) ended(o *Outcome) {
	if !o.Running {
		s.n[requestsOf(o.Canary)].Add(1)
	}
	switch bad := o.Canary && o.Result != Good; {
	case bad && o.Running:
		s.n[failedRunning].Add(1)
	case bad:
		s.n[failedEnded].Add(1)
	}
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
// out, and those at a weight that was rounded up. The slice is replaced, and not changed, if a weight is added, so that a
// counter is found without a lock.
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
	if found := find(s.list(), weight); found != nil {
		return found
	}
	return s.add(weight, maxSteps)
}

// draws returns the counters of a weight by which a request was drawn. If this process has counters of enough other weights,
// they are those of the weight rounded up. (See coarse.)
func (s *steps) draws(weight int) *step {
	all := s.list()
	if found := find(all, weight); found != nil {
		return found
	}
	if len(all) < exactSteps {
		return s.add(weight, exactSteps)
	}
	return s.at(coarse(weight))
}

// find returns the counters of a weight, or nil. It is a binary search without a call for each comparison, because each outcome
// needs it.
func find(all []*step, weight int) *step {
	low, high := 0, len(all)
	for low < high {
		mid := (low + high) / 2
		switch at := all[mid]; {
		case at.weight == weight:
			return at
		case at.weight < weight:
			low = mid + 1
		default:
			high = mid
		}
	}
	return nil
}

// add returns the counters of a weight that was missing a moment ago. If there are counters of limit weights by now, they are
// those of the weight rounded up.
func (s *steps) add(weight, limit int) *step {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.list()
	if len(all) >= limit {
		weight = coarse(weight)
	}
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
			if event := i - eventsOf(0, false); event < 0 || usable[event/2%kinds] {
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

// row returns a copy of the counters, if possible of one moment: see ledger.tally.
func (s *step) row() count {
	c := s.read()
	for range 3 {
		again := s.read()
		if again == c {
			break
		}
		c = again
	}
	return c
}

func (s *step) read() count {
	c := count{weight: s.weight}
	for i := range c.n {
		c.n[i] = s.n[i].Load()
	}
	return c
}
