package rollout

import (
	"cmp"
	"maps"
	"time"
)

// This file has the rules by which two processes of a rollout get the same machine when they exchange their machines.

// maxAborters is the number of processes that have a count of their own in aborts: a message has no room for more.
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

// with returns the aborts of a and of other.
func (a aborts) with(other aborts) aborts {
	all := aborts{}
	maps.Copy(all, a)
	for name, n := range other {
		all[name] = max(all[name], n)
	}
	return all
}

// has reports whether a has all aborts of other.
func (a aborts) has(other aborts) bool {
	for name, n := range other {
		if a[name] < n {
			return false
		}
	}
	return true
}

// caution is the order of the states. Of two processes with the same number of changes, the state with the greater value counts.
var caution = [states]int{Promoted: 0, Waiting: 1, Ramping: 2, Gated: 3, Paused: 4, Held: 5, Aborted: 6, RolledBack: 7}

// missedAbort is the reason if each of two processes has an abort that the other process has missed, and both were resumed.
const missedAbort = "an abort has not reached each process before the rollout was resumed"

// join returns the machine that this process has after it has got the machine of another process. others reports whether that is
// the machine of the other process. A machine that is RolledBack counts first, and then the machine that has all aborts, as an
// operator may abort in a process that has missed changes. Of two machines with the same aborts, the machine with more changes
// counts, and of two machines with the same number of changes, the more cautious one. If each machine has an abort that the other
// machine has missed, the rollout is aborted.
//
// The other process joins the same two machines, and gets the same machine. The turn of the result is the greater turn of the
// two, and is not raised by 1. Otherwise the turn would depend on the order of the messages. A machine of a third process, with a
// greater turn and the same aborts, could then undo a Resume.
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

// before reports whether other counts, of two machines with the same aborts. The machine with more changes counts, or else the
// more cautious one, which is also the machine with the smaller step. The reason is compared so that both processes choose the
// same machine.
func (m *machine) before(other *machine) bool {
	return cmp.Or(cmp.Compare(m.turn, other.turn), cmp.Compare(caution[m.state], caution[other.state]),
		cmp.Compare(other.step, m.step), cmp.Compare(m.reason, other.reason)) < 0
}

// same reports whether neither of two processes needs the machine of the other process.
func (m *machine) same(other *machine) bool {
	return !m.before(other) && !other.before(m) && maps.Equal(m.aborts, other.aborts)
}
