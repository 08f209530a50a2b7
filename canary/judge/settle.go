package judge

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// maxPending is the number of events that wait until they are settled.
const maxPending = 1 << 14

// An event is what a request has caused.
type event struct {
	hash  uint64 // of the unit, or 0
	mark  uint64 // random, and the same for all requests of a unit
	set   uint   // the kinds
	first first
}

// pending are the events whose requests began less than Options.Settle ago. If the sides fail after different times, the faster
// side would be counted first: after each step of the weight, all events would be those of the canary for a while. So events
// are counted in the order in which their requests began, when both sides had the same time to report.
//
// If there are too many events, only units and requests with a small mark are counted. The marks do not depend on the side, and
// the limit of the marks only falls, so an event that is counted at the end was never left out because of its side.
//
// Events that wait do not pass to another process. The process that has seen the requests counts the events when they are
// settled, and its counts pass with its last state.
type pending struct {
	events []event
	halved int // only marks below 2^(64-halved) are counted
}

func (p *pending) add(e event) {
	if e.mark>>(64-p.halved) != 0 {
		return
	}
	p.events = append(p.events, e)
	for len(p.events) >= maxPending && p.halved < 64 {
		p.halved++
		p.events = slices.DeleteFunc(p.events, func(e event) bool { return e.mark>>(64-p.halved) != 0 })
	}
}

// take removes and returns the events of requests that began at a time or before, in the order of these begins.
func (p *pending) take(until time.Duration) []event {
	slices.SortStableFunc(p.events, func(a, b event) int { return cmp.Compare(a.first.began, b.first.began) })
	n, _ := slices.BinarySearchFunc(p.events, until, func(e event, t time.Duration) int {
		if e.first.began <= t {
			return -1
		}
		return 1
	})
	due := slices.Clone(p.events[:n])
	p.events = slices.Delete(p.events, 0, n)
	return due
}

// markOf returns the mark of a unit, or a new one for a request without a unit. A hash has 53 bits.
func markOf(hash uint64) uint64 {
	if hash == 0 {
		return rand.Uint64()
	}
	return hash << 11
}
