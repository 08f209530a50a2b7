package judge

import (
	"slices"
	"time"
)

// maxSenders is the number of processes of a rollout whose evidence is joined.
const maxSenders = 1 << 12

// A ledger has all counts of a rollout, by the processes that have seen the outcomes, and the units of all processes together.
//
// Ledgers are joined, and nothing in them is a difference: a counter is joined with the same counter of the same process by the
// greater number, the first event of a unit by the earlier one, and the limit of the units by the smaller one. So a state or a
// delta may come twice, late, in another order, or by way of a third process, and each outcome still counts once. A difference
// would have to arrive exactly once, and the messages between processes may be lost if the receiver is slow.
//
// Two processes that have seen events of the same unit, and do not know of each other until the unit has left the set of both,
// count this unit twice. For that, both must be over the limit of units at once, and this is the only such case.
//
// Hosts that share a salt may be joined in the same way, since the units are joined by their hashes. Sums of the evidence of
// several hosts would count a unit on each host. The clock of Outcome.Began has to be the same then.
type ledger struct {
	own     *sender // of this process; nil in the ledger of a state
	senders map[string]*sender
	units   [kinds]units
	recent  recent
	out     outbox
	room    [2]tally // of the last call of tally
}

// newLedger returns an empty ledger.
func newLedger() *ledger {
	l := &ledger{senders: map[string]*sender{}}
	for kind := range l.units {
		l.units[kind].limit.Store(hashes)
	}
	return l
}

// add counts an event that a process has seen: each one of a request, and the first one of a unit.
func (l *ledger) add(e entry) (changed bool) {
	kind, from := e.kind, e.first.from
	if e.hash&requestBit != 0 {
		from.at(int(e.first.weight)).n[eventsOf(kind, e.first.canary)].Add(1)
		return true
	}
	if !l.units[kind].add(e.hash, e.first) {
		return false
	}
	if from == l.own {
		l.out.add(e.key)
	}
	l.trim(kind)
	return true
}

// trim lowers the limit of a kind until the units have room.
func (l *ledger) trim(kind int) {
	u := &l.units[kind]
	for len(u.first) > maxUnits && u.limit.Load() > 1 {
		l.lower(kind, u.limit.Load()/2)
	}
}

// lower lowers the limit of a kind, if it is not lower.
func (l *ledger) lower(kind int, limit uint64) {
	if l.units[kind].limit.Load() <= limit {
		return
	}
	l.units[kind].lower(kind, limit)
	l.out.forget(func(k key) bool { return k.kind == kind && k.hash >= limit })
	if kind == assigned {
		l.recent.clear()
	}
}

// settle counts the events of a process whose requests began at a time or before.
func (l *ledger) settle(s *sender, until time.Duration) (changed bool) {
	if until <= s.settled {
		return false
	}
	s.settled = until
	for _, e := range s.take(until) {
		changed = l.add(e) || changed
	}
	return changed
}

// join adds another ledger, which is changed too, but for the kinds of events that mean something else there. Both are brought to
// the same time and to the same limits before. What this process itself has counted is known best here, so the copies of others
// are left out.
func (l *ledger) join(other *ledger, usable [kinds]bool) {
	for id, from := range other.senders {
		if to := l.senders[id]; to == nil && len(l.senders) < maxSenders {
			l.senders[id] = newSender(id)
		}
		if to := l.senders[id]; to != nil && to != l.own {
			until := max(to.settled, from.settled)
			l.settle(to, until)
			other.settle(from, until)
		}
	}
	for kind := range l.units {
		if usable[kind] {
			l.lower(kind, other.units[kind].limit.Load())
			other.lower(kind, l.units[kind].limit.Load())
		}
	}
	for id, from := range other.senders {
		if to := l.senders[id]; to != nil && to != l.own {
			to.join(&from.steps, usable)
			to.joinWaiting(from, usable)
		}
	}
	for kind := range l.units {
		if usable[kind] {
			l.joinUnits(&other.units[kind], kind)
		}
	}
}

func (s *sender) joinWaiting(other *sender, usable [kinds]bool) {
	for k, f := range other.waiting {
		if usable[k.kind] {
			f.from = s
			s.wait(k, f)
		}
	}
}

// joinUnits adds units below the limit. There may be too many units on the way: all of them are joined before some leave.
func (l *ledger) joinUnits(other *units, kind int) {
	for hash, f := range other.first {
		if f.from = l.senders[f.from.id]; f.from != nil {
			l.units[kind].add(hash, f)
		}
	}
	l.trim(kind)
}

// tally returns the sums over all processes, which are valid until the next call. exact is false if counters have changed while they were read, several times.
//
// Requests without units are counted without a lock. If a goroutine was interrupted between reading the counters of stable and
// those of the canary, the canary would have events of a later time, and a Regression from them could not be taken back. If two
// readings in turn are the same, no counter has changed between them, as counters only rise: both are the counts of one moment.
// If this never happens, the last reading is used: the canary is read before stable, and so has no events that are later.
func (l *ledger) tally() (t tally, exact bool) {
	l.read(0)
	last := 0
	for range 3 {
		last = 1 - last
		l.read(last)
		if exact = slices.Equal(l.room[0], l.room[1]); exact {
			break
		}
	}
	t = l.room[last]
	for kind := range l.units {
		l.units[kind].addTo(&t, kind)
	}
	l.room[last] = t
	return t, exact
}

// read reads the sums of the counters into a room, those of the canary first.
func (l *ledger) read(room int) {
	t := l.room[room][:0]
	for _, canary := range []bool{true, false} {
		for _, s := range l.senders {
			t.add(&s.steps, canary)
		}
	}
	l.room[room] = t
}
