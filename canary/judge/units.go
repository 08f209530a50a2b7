package judge

import (
	"cmp"
	"math/bits"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxUnits is the number of units that are known of each kind of event.
	maxUnits = 1 << 14
	// Of the units, one in sampled is in the self-test of the assignment.
	sampled = 8
	// A hash of a unit is from 1 to hashes-1.
	hashes = 1 << 53
)

// A key is a unit and a kind of event.
type key struct {
	kind int
	hash uint64
}

// A first is the first event of a unit: when its request began, the side and the weight at that time, and the process that has
// seen the event.
type first struct {
	began  time.Duration
	weight uint32
	canary bool
	from   *sender
}

// before reports whether the event is the first one of the two. Two processes that know the same events have to choose the same
// first one, also if several requests began at the same time.
func (f first) before(other first) bool {
	order := cmp.Or(
		cmp.Compare(f.began, other.began), cmp.Compare(f.weight, other.weight),
		requestsOf(f.canary)-requestsOf(other.canary), strings.Compare(f.from.id, other.from.id),
	)
	return order < 0
}

// units are the units that have had an event of one kind, by their hashes, with the first event of each. A unit counts once
// because its further events do not depend on the version only: with sticky cohorts, a few users with broken clients would
// otherwise decide for the side on which they happen to be. At its first event, a unit is on the canary with the probability of
// the weight, whatever the units before it did.
//
// The first event is the one whose request began first. So two processes that exchange their units in any order, and more than
// once, have the same units.
//
// If there are more than maxUnits, the limit of the hashes is halved. Units with a hash of the limit or above leave the set, and
// their events stay counted: they are frozen in the counters of the process that has seen them. New units count only if their
// hash is below the limit. So a unit never counts again after it has left the set. Whether a unit counts depends on its hash,
// which says nothing about its side, and on a limit that was fixed before the event. Such a filter is predictable: given the
// past, a unit that passes the filter is on the canary with the probability of the weight, so the evidence stays an e-process.
type units struct {
	limit atomic.Uint64 // changes only while the lock of the evidence is held
	first map[uint64]first
	count map[uint32]*[2]uint64 // events of stable and of the canary, by weight
}

// add reports whether the event is now the first of its unit.
func (u *units) add(hash uint64, f first) bool {
	old, known := u.first[hash]
	switch {
	case hash >= u.limit.Load(), known && !f.before(old):
		return false
	case known:
		u.remove(hash, old)
	case u.first == nil:
		u.first, u.count = map[uint64]first{}, map[uint32]*[2]uint64{}
	}
	u.first[hash] = f
	if u.count[f.weight] == nil {
		u.count[f.weight] = new([2]uint64)
	}
	u.count[f.weight][requestsOf(f.canary)]++
	return true
}

func (u *units) remove(hash uint64, f first) {
	delete(u.first, hash)
	n := u.count[f.weight]
	n[requestsOf(f.canary)]--
	if *n == [2]uint64{} {
		delete(u.count, f.weight)
	}
}

// lower freezes the units with a hash of the limit or above.
func (u *units) lower(kind int, limit uint64) {
	u.limit.Store(limit)
	for hash, f := range u.first {
		if hash >= limit {
			u.remove(hash, f)
			f.from.at(int(f.weight)).n[frozenOf(kind, f.canary)].Add(1)
		}
	}
}

// halved returns how often the limit was halved.
func (u *units) halved() int { return bits.Len64(hashes) - bits.Len64(u.limit.Load()) }

// addTo adds the units to a tally, as events of a kind.
func (u *units) addTo(t *tally, kind int) {
	for weight, n := range u.count {
		c := t.at(int(weight))
		c.n[eventsOf(kind, false)] += n[requestsOf(false)]
		c.n[eventsOf(kind, true)] += n[requestsOf(true)]
	}
}

// recent has the units whose assignment has been counted, with the time of the first one, so that a further request of a unit
// takes no lock. A shard is replaced, and not changed, if a unit is added. A unit that is missing costs a lock.
type recent [256]atomic.Pointer[map[uint64]time.Duration]

func (r *recent) shard(hash uint64) *atomic.Pointer[map[uint64]time.Duration] {
	return &r[hash/sampled%uint64(len(r))]
}

// has reports whether an assignment of the unit at this time or before was counted.
func (r *recent) has(hash uint64, now time.Duration) bool {
	m := r.shard(hash).Load()
	if m == nil {
		return false
	}
	began, ok := (*m)[hash]
	return ok && began <= now
}

// add adds a unit. The caller holds the lock of the evidence.
func (r *recent) add(hash uint64, began time.Duration) {
	next := map[uint64]time.Duration{hash: began}
	if m := r.shard(hash).Load(); m != nil {
		for h, b := range *m {
			if h != hash {
				next[h] = b
			}
		}
	}
	r.shard(hash).Store(&next)
}

// clear removes all units.
func (r *recent) clear() {
	for i := range r {
		r[i].Store(nil)
	}
}
