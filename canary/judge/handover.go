package judge

import (
	"encoding"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

var (
	_ encoding.BinaryMarshaler   = (*Analysis)(nil)
	_ encoding.BinaryUnmarshaler = (*Analysis)(nil)
)

// MarshalBinary returns the evidence for UnmarshalBinary of another process, exactly: both weigh the same to the last bit.
func (a *Analysis) MarshalBinary() ([]byte, error) {
	a.mu.Lock()
	s := a.copyHead()
	s.flags, s.peak = a.flags(), a.peak
	counted := map[*sender]bool{}
	for kind := range a.units {
		for hash, f := range a.units[kind].first {
			s.units = append(s.units, entry{key: key{kind: kind, hash: hash}, first: f})
			counted[f.from] = true
		}
	}
	for _, from := range a.senders {
		if c := from.copy(); len(c.rows) > 0 || len(c.waiting) > 0 || counted[from] {
			s.senders = append(s.senders, c)
		}
	}
	s.copyThresholds(a.latency)
	a.mu.Unlock()

	slices.SortFunc(s.units, entry.compare)
	slices.SortFunc(s.senders, func(a, b copied) int { return strings.Compare(a.sender.id, b.sender.id) })
	for _, c := range s.senders {
		slices.SortFunc(c.waiting, entry.compare)
	}
	return s.encode(), nil
}

// copyHead returns a state without counts.
func (a *Analysis) copyHead() state {
	s := state{salt: a.salt, opts: *a.opts.Load(), began: time.Duration(a.began.Load())}
	for kind := range a.units {
		s.limits[kind] = a.units[kind].limit.Load()
	}
	return s
}

// copy returns the counters and the events that wait, in any order.
func (s *sender) copy() copied {
	c := copied{sender: s, settled: s.settled, halved: s.halved, rows: s.rows()}
	for k, f := range s.waiting {
		c.waiting = append(c.waiting, entry{key: k, first: f})
	}
	return c
}

// copyThresholds is called after the counters were copied: so the state has no events of a threshold that it does not name.
func (s *state) copyThresholds(l *latency) {
	s.cuts = *l.cuts.Load()
	if all := l.durations(); s.cuts[0] == 0 && len(all) < baseline {
		s.sample = all
	}
}

func (a *Analysis) flags() (flags byte) {
	if a.latched {
		flags |= flagLatched
	}
	if a.keyed.Load() {
		flags |= flagKeyed
	}
	if a.mixed {
		flags |= flagMixed
	}
	return flags
}

// UnmarshalBinary adds the evidence of another process. It may be called at any time and more than once, also in the process
// from which the evidence once came: each outcome counts once. It returns nil for a state with another salt, and ignores the
// state, which is about another cohort. Events for other thresholds of the latency are left out. After a state with an error,
// nothing has changed.
func (a *Analysis) UnmarshalBinary(data []byte) error {
	s, err := decode(data)
	if err != nil || s.salt != a.salt {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.takeOptions(s)
	a.join(s)
	return nil
}

// takeOptions takes over the options if the evidence of the state has begun before that of this process. The caller holds mu.
func (a *Analysis) takeOptions(s state) {
	began := time.Duration(a.began.Load())
	if none := began == math.MaxInt64; none {
		a.latency.setAbsolute(s.cuts[len(cuts{})-1])
	} else if began <= s.began {
		return
	}
	a.opts.Store(&s.opts)
	a.memos = memos{}
}

// Delta returns the counters of this process that have changed, the units that were not in a delta yet, and some older ones. The
// counters and the units are for Ingest of the process that judges. That process sends deltas too: the other processes take over
// the thresholds of the latency, which only a process with requests of stable can learn, and the limits of the units. Without
// them, a process that has only requests of the canary counts no slow ones.
//
// Call Delta in regular intervals, such as a second, in each process. A delta has less than 16 KiB if the salt has less than
// 1 KiB. If more units have failed since the last delta than a delta has room for, the next deltas have the others: bad outcomes
// and panics come first.
func (a *Analysis) Delta() []byte {
	a.mu.Lock()
	s := a.copyHead()
	s.flags = a.flags() &^ flagLatched
	c := copied{sender: a.own, settled: a.own.settled, halved: a.own.halved}
	all := a.own.list()
	if len(all) > 0 && all[0].weight == 0 { // always: if weights are rounded, the judge has to know
		c.rows = append(c.rows, all[0].row())
		all = all[1:]
	}
	c.rows = append(c.rows, a.out.rows(all)...)
	for _, k := range a.out.take() {
		if f := a.units[k.kind].first[k.hash]; f.from == a.own {
			s.units = append(s.units, entry{key: k, first: f})
		}
	}
	s.copyThresholds(a.latency)
	s.sample, s.senders = nil, []copied{c}
	a.mu.Unlock()

	slices.SortFunc(s.units, entry.compare)
	s.units = slices.CompactFunc(s.units, func(a, b entry) bool { return a.key == b.key })
	return s.encode()
}

// Ingest adds the evidence of a Delta of another process, after which Verdict may be another one. A delta may be lost, come twice
// or come late. Only a delta from a process of the same rollout is accepted.
func (a *Analysis) Ingest(delta []byte) error {
	s, err := decode(delta)
	if err != nil {
		return err
	}
	if s.salt != a.salt {
		return fmt.Errorf("judge: the delta is of a rollout with the salt %q, and this one has %q: give both processes the same salt",
			s.salt, a.salt)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.join(s)
	return nil
}

// join adds a state. The caller holds mu.
func (a *Analysis) join(s state) {
	a.latency.adopt(s.cuts)
	if s.cuts[0] == 0 {
		a.latency.resume(s.sample)
	}
	a.ledger.join(s.ledger(), a.usable(s.cuts))
	a.seen(s.began)
	a.peak = max(a.peak, s.peak)
	a.latched = a.latched || s.flags&flagLatched != 0
	a.mixed = a.mixed || s.flags&flagMixed != 0
	if s.flags&flagKeyed != 0 {
		a.keyed.Store(true)
	}
}

// usable returns the kinds whose events mean the same in a state with these thresholds.
func (a *Analysis) usable(other cuts) (kind [kinds]bool) {
	own := a.latency.cuts.Load()
	for k := range kind {
		kind[k] = true
	}
	for i, cut := range other {
		if cut != own[i] {
			kind[slow+i] = cut == 0
			a.mixed = a.mixed || cut != 0
		}
	}
	return kind
}
