package judge

import (
	"cmp"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/midair-go/midair/internal/kept"
)

// format is the layout of the state and of a delta. Both have the same fields, and a delta has only some of the counters and
// units.
var format = kept.Format{Name: "judge", Magic: "midair-judge\x00", Version: 1}

var (
	_ encoding.BinaryMarshaler   = (*Analysis)(nil)
	_ encoding.BinaryUnmarshaler = (*Analysis)(nil)
)

const (
	flagLatched = 1 << iota
	flagKeyed
)

// canaryBit marks the canary in the 16 bits of a weight.
const canaryBit = 1 << 15

// An entry is the first event of a unit, of one kind.
type entry struct {
	kind  int
	hash  uint64
	first first
}

// A state is what passes between processes. States are joined, and nothing in them is a difference: a counter is joined with the
// same counter of the same process by the greater number, and the first event of a unit by the earlier one. So a state or a
// delta may come twice, late, in another order, or by way of a third process, and each outcome still counts once. A difference
// would have to arrive exactly once, and the messages between processes may be lost if the receiver is slow.
//
// Hosts that share a salt may be joined in the same way, since the units are joined by their hashes. Sums of the evidence of
// several hosts would count a unit on each host. The clock of Outcome.Began has to be the same then.
type state struct {
	salt    string
	flags   byte
	peak    float64
	cuts    cuts
	senders map[string]tally
	units   []entry
}

func (s state) encode() []byte {
	b := kept.Append32(format.Begin(), s.salt)
	b = append(b, s.flags)
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(s.peak))
	for _, c := range s.cuts {
		b = binary.BigEndian.AppendUint64(b, uint64(c))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.senders)))
	for _, id := range slices.Sorted(maps.Keys(s.senders)) {
		b = kept.Append16(b, []byte(id))
		b = binary.BigEndian.AppendUint32(b, uint32(len(s.senders[id])))
		for _, c := range s.senders[id] {
			b = binary.BigEndian.AppendUint16(b, uint16(c.weight))
			for _, n := range c.n {
				b = binary.BigEndian.AppendUint64(b, n)
			}
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.units)))
	for _, e := range s.units {
		weight := e.first.weight
		if e.first.canary {
			weight |= canaryBit
		}
		b = append(b, byte(e.kind))
		b = binary.BigEndian.AppendUint64(b, e.hash)
		b = binary.BigEndian.AppendUint64(b, uint64(e.first.began))
		b = binary.BigEndian.AppendUint16(b, weight)
	}
	return format.Seal(b)
}

// decode is the inverse of encode. If the state has what no process writes, decode returns the error of a damaged state.
func decode(data []byte) (s state, err error) {
	r := format.Open(data)
	s.salt = string(r.Bytes32())
	if flags := r.Take(1); flags != nil {
		s.flags = flags[0]
	}
	s.peak = math.Float64frombits(r.Uint64())
	for i := range s.cuts {
		s.cuts[i] = time.Duration(r.Uint64())
	}
	s.senders = map[string]tally{}
	for n := r.Uint32(); n > 0 && r.Err() == nil; n-- {
		id := string(r.Bytes16())
		s.senders[id] = decodeRows(r)
	}
	s.units = decodeUnits(r)
	if err := r.Err(); err != nil {
		return state{}, err
	}
	if err := s.check(); err != nil {
		return state{}, r.Damaged(err)
	}
	return s, nil
}

func decodeRows(r *kept.Reader) (t tally) {
	for n := r.Uint32(); n > 0 && r.Err() == nil; n-- {
		c := count{weight: int(r.Uint16())}
		for i := range c.n {
			c.n[i] = r.Uint64()
		}
		t = append(t, c)
	}
	return t
}

func decodeUnits(r *kept.Reader) (all []entry) {
	for n := r.Uint32(); n > 0 && r.Err() == nil; n-- {
		var e entry
		if kind := r.Take(1); kind != nil {
			e.kind = int(kind[0])
		}
		e.hash, e.first.began = r.Uint64(), time.Duration(r.Uint64())
		weight := r.Uint16()
		e.first.weight, e.first.canary = weight&^canaryBit, weight&canaryBit != 0
		all = append(all, e)
	}
	return all
}

// check returns an error if no process writes such a state.
func (s state) check() error {
	if math.IsNaN(s.peak) {
		return errors.New("the greatest evidence is not a number")
	}
	for _, c := range s.cuts {
		if c < 0 {
			return fmt.Errorf("a threshold of %v", c)
		}
	}
	for id, rows := range s.senders {
		for _, c := range rows {
			if id == "" || c.weight >= scale {
				return fmt.Errorf("the counters of %q at a weight of %d/%d", id, c.weight, scale)
			}
		}
	}
	for _, e := range s.units {
		if e.kind >= kinds || e.hash == 0 || !randomised(int(e.first.weight)) {
			return fmt.Errorf("a unit with an event of kind %d at a weight of %d/%d", e.kind, e.first.weight, scale)
		}
	}
	return nil
}

// MarshalBinary returns the evidence for UnmarshalBinary of another process, exactly: both weigh the same to the last bit.
func (a *Analysis) MarshalBinary() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := state{salt: a.salt, flags: a.flags(), peak: a.peak, cuts: *a.latency.cuts.Load(), senders: map[string]tally{}}
	for id, from := range a.senders {
		for _, step := range from.list() {
			s.senders[id] = append(s.senders[id], step.snapshot())
		}
	}
	for kind := range a.units {
		for hash, f := range a.units[kind].first {
			s.units = append(s.units, entry{kind: kind, hash: hash, first: f})
		}
	}
	slices.SortFunc(s.units, func(a, b entry) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.hash, b.hash)) })
	return s.encode(), nil
}

func (a *Analysis) flags() (flags byte) {
	if a.latched {
		flags |= flagLatched
	}
	if a.keyed.Load() {
		flags |= flagKeyed
	}
	return flags
}

func (s *step) snapshot() count {
	c := count{weight: s.weight}
	for i := range c.n {
		c.n[i] = s.n[i].Load()
	}
	return c
}

// UnmarshalBinary adds the evidence of another process. It may be called at any time and more than once, also in the process
// from which the evidence once came: each outcome counts once. The evidence of a rollout with another salt is left out, since it
// is about another cohort. So is what was counted for other thresholds of the latency. After a state with an error, nothing has
// changed.
func (a *Analysis) UnmarshalBinary(data []byte) error {
	s, err := decode(data)
	if err == nil && s.salt == a.salt {
		a.join(s)
	}
	return err
}

// Delta returns what this process has counted since the last Delta, for Ingest of the process that judges. The counters are
// sent as they are now, and units that were in earlier deltas are sent again in turn, so that what was lost comes later. Call
// Delta in regular intervals, such as a second. A delta has less than 16 KiB if the salt has less than 1 KiB. If more units have
// failed since the last delta than one has room for, the next deltas have the others.
func (a *Analysis) Delta() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := state{salt: a.salt, flags: a.flags() &^ flagLatched, cuts: *a.latency.cuts.Load(), units: a.sender.units()}
	all := a.own.list()
	rows := tally{}
	for range min(len(all), deltaRows) {
		*rows.at(all[a.sender.row%len(all)].weight) = all[a.sender.row%len(all)].snapshot()
		a.sender.row++
	}
	s.senders = map[string]tally{a.id: rows}
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
	a.join(s)
	return nil
}

// join adds a state.
func (a *Analysis) join(s state) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.latency.adopt(s.cuts)
	usable := a.usable(s.cuts)
	for id, rows := range s.senders {
		if a.senders[id] == nil {
			a.senders[id] = new(steps)
		}
		a.senders[id].join(rows, usable)
	}
	for _, e := range s.units {
		if usable[e.kind] {
			a.units[e.kind].add(e.hash, e.first)
		}
	}
	a.peak = max(a.peak, s.peak)
	a.latched = a.latched || s.flags&flagLatched != 0
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
