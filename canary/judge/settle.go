package judge

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// maxPending is the number of events of a process that wait until they are settled.
const maxPending = 1 << 15

// requestBit marks the key of a request without a unit, of which the other bits are random.
const requestBit = 1 << 63

func newRequest() uint64 { return rand.Uint64() | requestBit }

// An entry is an event of one kind, of a unit or a request.
type entry struct {
	key
	first first
}

// A sender is a process, with what it has counted and what it has not counted yet.
//
// Events wait until Options.Settle after the beginnings of their requests. If the sides fail after different times, the faster
// side would be counted first: after each step of the weight, all events would be those of the canary for a while. So events
// are counted in the order in which their requests began, when both sides had the same time to report. Of a unit, the first event
// of each kind waits.
//
// If there are too many events, only units and requests with a small mark are counted. The marks do not depend on the side, and
// the limit of the marks only falls, so an event that is counted at the end was never left out because of its side.
//
// Two copies of a sender are joined after both are settled until the same time: an event is then counted in both, or waits. So
// another process may settle the events of a process that has ended, and it does no harm if this process settles them too.
type sender struct {
	id string
	steps
	settled time.Duration // events of requests that began then or before are counted
	waiting map[key]first
	halved  int // only marks below 2^(64-halved) are counted
}

func newSender(id string) *sender {
	return &sender{id: id, settled: math.MinInt64, waiting: map[key]first{}}
}

// wait lets an event wait, if it is the first one of its unit.
func (s *sender) wait(k key, f first) {
	if old, ok := s.waiting[k]; s.skips(k) || ok && !f.before(old) {
		return
	}
	s.waiting[k] = f
	for len(s.waiting) > maxPending && s.halved < 64 {
		s.halved++
		maps.DeleteFunc(s.waiting, func(k key, _ first) bool { return s.skips(k) })
	}
}

// skips reports whether a unit or a request is left out. A hash of a unit has 53 bits.
func (s *sender) skips(k key) bool {
	mark := k.hash << 11
	if k.hash&requestBit != 0 {
		mark = k.hash << 1
	}
	return mark>>(64-s.halved) != 0
}

// take removes and returns the events of requests that began at a time or before, in the order of these beginnings.
func (s *sender) take(until time.Duration) (due []entry) {
	for k, f := range s.waiting {
		if f.began <= until {
			due = append(due, entry{key: k, first: f})
			delete(s.waiting, k)
		}
	}
	slices.SortFunc(due, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.first.began, b.first.began), a.compare(b))
	})
	return due
}

func (e entry) compare(other entry) int {
	return cmp.Or(cmp.Compare(e.kind, other.kind), cmp.Compare(e.hash, other.hash))
}
