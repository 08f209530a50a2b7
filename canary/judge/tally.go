package judge

import (
	"cmp"
	"slices"
)

// A count has the sums of all processes at one weight.
type count struct {
	weight int
	n      [counters]uint64
}

// sum returns the sum of all counters, which changes whenever one of them does.
func (c count) sum() (n uint64) {
	for _, x := range c.n {
		n += x
	}
	return n
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

// add adds the counters of one side of a process. Frozen events are events.
func (t *tally) add(s *steps, canary bool) {
	for _, from := range s.list() {
		to := t.at(from.weight)
		to.n[requestsOf(canary)] += from.n[requestsOf(canary)].Load()
		for kind := range kinds {
			to.n[eventsOf(kind, canary)] += from.n[eventsOf(kind, canary)].Load() + from.n[frozenOf(kind, canary)].Load()
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

// labels appends the events of a kind at each weight that has drawn.
func (t tally) labels(all []labels, kind int) []labels {
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

// leftOut returns the number of requests of a side that were left out.
func (t tally) leftOut(canary bool) uint64 {
	if len(t) == len(t.drawn()) {
		return 0
	}
	return t[0].n[requestsOf(canary)]
}

// rounded returns the number of outcomes and assignments at a weight that was rounded up. If there are any, only the evidence for
// a relative risk above a limit is to be trusted (see coarse). There is no Pass, the interval of the risk has no upper end, and
// the assignment is not tested.
func (t tally) rounded() uint64 {
	if len(t) == len(t.drawn()) {
		return 0
	}
	return t[0].n[roundedOf(false)] + t[0].n[roundedOf(true)]
}

// unended reports whether fewer than 90 % of the requests that were assigned to a side have ended. Requests without a unit are
// all counted when they are assigned.
func (t tally) unended() bool {
	for _, canary := range []bool{false, true} {
		if 10*t.sum(requestsOf(canary)) < 9*t.sum(eventsOf(assigned, canary)) {
			return true
		}
	}
	return false
}
