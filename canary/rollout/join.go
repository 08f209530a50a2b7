package rollout

import (
	"cmp"
	"maps"
	"time"
)

// This file has the rules by which two processes of a rollout get the same machine when they exchange theirs.

// maxAborters is the number of processes that have a count of their own in aborts: a message has room for so many.
const maxAborters = 32

// aborts has how often an operator has aborted the rollout in each process, by the name of the process. A process that compares
// its own aborts with those of another process knows which of the two has missed an abort. A value is replaced, and not changed,
// as goroutines share it.
type aborts map[string]uint64

// plus returns the aborts with a further one in a process. Processes for which there is no room share one count.
func (a aborts) plus(name string) aborts {
	if _, counted := a[name]; !counted && len(a) >= maxAborters {
		name = ""
	}
	all := a.with(nil)
	all[name]++
	return all
}

// with returns the aborts of both.
func (a aborts) with(other aborts) aborts {
	all := aborts{}
	maps.Copy(all, a)
	for name, n := range other {
		all[name] = max(all[name], n)
	}
	return all
}

// has reports whether no abort of the other value is missing.
func (a aborts) has(other aborts) bool {
	for name, n := range other {
		if a[name] < n {
			return false
		}
	}
	return true
}

// caution is the order in which states of two processes with as many changes count.
var caution = [states]int{Promoted: 0, Waiting: 1, Ramping: 2, Gated: 3, Paused: 4, Held: 5, Aborted: 6, RolledBack: 7}

// missedAbort is the reason if each process has an abort that the other one has missed, and both were resumed.
const missedAbort = "an abort has not reached each process before the rollout was resumed"

// join returns the machine that this process has after it has got the machine of another process, and whether that is the other
// process's machine. RolledBack counts first, and then the machine with all aborts: an operator may abort in a process that has
// missed changes. Of two machines with the same aborts, the one with more changes counts, and of two with as many changes, the
// more cautious one. If each has an abort that the other one has missed, the rollout is aborted.
//
// The other process joins the same two machines to the same machine. The turn is the greater one of both, and not one more:
// otherwise the turn would depend on the order of the messages, and a machine of a third process, with a greater turn and no
// other abort, could undo a Resume.
func (m *machine) join(other *machine) (both machine, others bool) {
	mine, theirs := m.aborts.has(other.aborts), other.aborts.has(m.aborts)
	apart := false
	switch {
	case m.state == RolledBack || other.state == RolledBack:
		others = m.state != RolledBack || other.state == RolledBack && m.before(other)
	case mine != theirs:
		others = theirs
	default:
		others, apart = m.before(other), !mine
	}
	first, second := m, other
	if others {
		first, second = other, m
	}
	both = *first
	if apart {
		both.state, both.since = Aborted, time.Time{}
		switch Aborted {
		case first.state:
		case second.state:
			both.reason = second.reason
		default:
			both.reason = missedAbort
		}
	}
	both.self, both.turn, both.aborts = m.self, max(m.turn, other.turn), m.aborts.with(other.aborts)
	return both, others
}

// before reports whether the other one of two machines with the same aborts counts: that with more changes, or else the more
// cautious one, which is also the one with the smaller step. The reason only makes both processes choose the same machine.
func (m *machine) before(other *machine) bool {
	return cmp.Or(cmp.Compare(m.turn, other.turn), cmp.Compare(caution[m.state], caution[other.state]),
		cmp.Compare(other.step, m.step), cmp.Compare(m.reason, other.reason)) < 0
}

// same reports whether neither process has to get the machine of the other one.
func (m *machine) same(other *machine) bool {
	return !m.before(other) && !other.before(m) && maps.Equal(m.aborts, other.aborts)
}
