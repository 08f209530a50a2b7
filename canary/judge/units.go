package judge

import "time"

const (
	// maxUnits is the number of failed units that are known of each kind of event. Up to this number the evidence has every unit.
	// Events of further units are not counted, on either side: which units come first does not depend on their side, so the
	// evidence stays valid, and stops growing.
	maxUnits = 1 << 14
	// Of the units, one in sampled is in the self-test of the assignment.
	sampled = 8
)

// A first is the first event of a unit: when its request began, and the side and the weight at that time.
type first struct {
	began  time.Duration
	weight uint16
	canary bool
}

// units are the units that have had an event of one kind, by their hashes, with the first event of each. A unit counts once
// because its further events do not depend on the version only: with sticky cohorts, a few users with broken clients would
// otherwise decide for the side on which they happen to be. At its first event, a unit is on the canary with the probability of
// the weight, whatever the units before it did.
//
// The first event is the one whose request began first. So two processes that exchange their units in any order, and more than
// once, have the same units.
type units struct {
	first map[uint64]first
	count map[uint16]*[2]uint64 // events of stable and of the canary, by weight
}

// add reports whether the event is now the first of its unit.
func (u *units) add(hash uint64, f first) bool {
	old, known := u.first[hash]
	switch {
	case known && old.began <= f.began, !known && len(u.first) >= maxUnits:
		return false
	case known:
		u.count[old.weight][requestsOf(old.canary)]--
	case u.first == nil:
		u.first, u.count = map[uint64]first{}, map[uint16]*[2]uint64{}
	}
	u.first[hash] = f
	if u.count[f.weight] == nil {
		u.count[f.weight] = new([2]uint64)
	}
	u.count[f.weight][requestsOf(f.canary)]++
	return true
}

// addTo adds the units to a tally, as events of a kind.
func (u *units) addTo(t *tally, kind int) {
	for weight, n := range u.count {
		c := t.at(int(weight))
		c.n[eventsOf(kind, false)] += n[requestsOf(false)]
		c.n[eventsOf(kind, true)] += n[requestsOf(true)]
	}
}
