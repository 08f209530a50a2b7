package judge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/midair-go/midair/internal/kept"
)

// format is the layout of the state and of a delta. Both have the same fields, and a delta has only some of the counters and
// units, no events that wait, and no durations.
var format = kept.Format{Name: "judge", Magic: "midair-judge\x00", Version: 1}

const (
	flagLatched = 1 << iota
	flagKeyed
	flagMixed
	flagsEnd
)

// canaryBit marks the canary in the 32 bits of a weight.
const canaryBit = 1 << 31

// greatestCount is more than a counter can have, and so small that sums do not overflow.
const greatestCount = 1 << 50

// A state is what passes between processes.
type state struct {
	salt    string
	flags   byte
	peak    float64
	opts    Options
	began   time.Duration // the beginning of the first request
	cuts    cuts
	sample  []time.Duration // of which there are no thresholds yet
	limits  [kinds]uint64
	senders []copied
	units   []entry // in the order of their keys, and so are the events that wait
}

// A copied has the counters of a process at one moment, and its events that wait.
type copied struct {
	sender  *sender // only the id is read
	settled time.Duration
	halved  int
	rows    tally
	waiting []entry
}

func (s state) encode() []byte {
	b := kept.Append32(format.Begin(), s.salt)
	b = append(b, s.flags)
	for _, x := range []float64{s.peak, s.opts.Alpha, s.opts.Tolerance, s.opts.SlowTolerance} {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(x))
	}
	for _, d := range append([]time.Duration{s.opts.Slow, s.opts.Fast, s.opts.Settle, s.began}, s.cuts[:]...) {
		b = binary.BigEndian.AppendUint64(b, uint64(d))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.sample)))
	for _, d := range s.sample {
		b = binary.BigEndian.AppendUint64(b, uint64(d))
	}
	for _, limit := range s.limits {
		b = binary.BigEndian.AppendUint64(b, limit)
	}
	places := map[*sender]uint16{}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.senders)))
	for i, c := range s.senders {
		places[c.sender] = uint16(i)
		b = c.encode(b)
	}
	return format.Seal(appendEntries(b, s.units, places))
}

func (c copied) encode(b []byte) []byte {
	b = kept.Append16(b, []byte(c.sender.id))
	b = binary.BigEndian.AppendUint64(b, uint64(c.settled))
	b = append(b, byte(c.halved))
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.rows)))
	for _, row := range c.rows {
		b = binary.BigEndian.AppendUint32(b, uint32(row.weight))
		for _, n := range row.n {
			b = binary.BigEndian.AppendUint64(b, n)
		}
	}
	return appendEntries(b, c.waiting, nil)
}

// appendEntries appends events, each with the place of its process, which is 0 for an event that waits.
func appendEntries(b []byte, entries []entry, places map[*sender]uint16) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	for _, e := range entries {
		weight := e.first.weight
		if e.first.canary {
			weight |= canaryBit
		}
		b = append(b, byte(e.kind))
		b = binary.BigEndian.AppendUint64(b, e.hash)
		b = binary.BigEndian.AppendUint64(b, uint64(e.first.began))
		b = binary.BigEndian.AppendUint32(b, weight)
		b = binary.BigEndian.AppendUint16(b, places[e.first.from])
	}
	return b
}

// decode is the inverse of encode. If the state has fields that no process writes, decode returns the error of a damaged state.
func decode(data []byte) (s state, err error) {
	r := format.Open(data)
	s.salt = string(r.Bytes32())
	s.flags = readByte(r)
	for _, x := range []*float64{&s.peak, &s.opts.Alpha, &s.opts.Tolerance, &s.opts.SlowTolerance} {
		*x = math.Float64frombits(r.Uint64())
	}
	for _, d := range []*time.Duration{&s.opts.Slow, &s.opts.Fast, &s.opts.Settle, &s.began} {
		*d = time.Duration(r.Uint64())
	}
	for i := range s.cuts {
		s.cuts[i] = time.Duration(r.Uint64())
	}
	for n := r.Uint16(); n > 0 && r.Err() == nil; n-- {
		s.sample = append(s.sample, time.Duration(r.Uint64()))
	}
	for i := range s.limits {
		s.limits[i] = r.Uint64()
	}
	for n := r.Uint16(); n > 0 && r.Err() == nil; n-- {
		s.senders = append(s.senders, decodeCopied(r))
	}
	s.units = decodeEntries(r, s.senders)
	if err := r.Err(); err != nil {
		return state{}, err
	}
	if err := s.check(); err != nil {
		return state{}, r.Damaged(err)
	}
	return s, nil
}

func readByte(r *kept.Reader) byte {
	if b := r.Take(1); b != nil {
		return b[0]
	}
	return 0
}

func decodeCopied(r *kept.Reader) (c copied) {
	c.sender = newSender(string(r.Bytes16()))
	c.settled, c.halved = time.Duration(r.Uint64()), int(readByte(r))
	for n := r.Uint32(); n > 0 && r.Err() == nil; n-- {
		row := count{weight: int(r.Uint32())}
		for i := range row.n {
			row.n[i] = r.Uint64()
		}
		c.rows = append(c.rows, row)
	}
	c.waiting = decodeEntries(r, []copied{c})
	return c
}

// decodeEntries reads events. An event of a process that is not in the state has no sender.
func decodeEntries(r *kept.Reader, senders []copied) (all []entry) {
	for n := r.Uint32(); n > 0 && r.Err() == nil; n-- {
		e := entry{key: key{kind: int(readByte(r)), hash: r.Uint64()}, first: first{began: time.Duration(r.Uint64())}}
		weight := r.Uint32()
		e.first.weight, e.first.canary = weight&^canaryBit, weight&canaryBit != 0
		if place := int(r.Uint16()); place < len(senders) {
			e.first.from = senders[place].sender
		}
		all = append(all, e)
	}
	return all
}

// check returns an error if no process writes such a state.
func (s state) check() error {
	if err := s.opts.check(); err != nil {
		return err
	}
	switch {
	case s.flags >= flagsEnd:
		return fmt.Errorf("unknown flags %#x", s.flags)
	case !(s.peak >= 0 && s.peak <= math.MaxFloat64):
		return fmt.Errorf("the logarithm of the greatest evidence is %v", s.peak)
	case len(s.sample) >= baseline || len(s.senders) > maxSenders:
		return fmt.Errorf("%d durations of stable and %d processes", len(s.sample), len(s.senders))
	}
	for _, d := range append(s.sample, s.cuts[:]...) {
		if d < 0 {
			return fmt.Errorf("a duration or a threshold of %v", d)
		}
	}
	for _, limit := range s.limits {
		if limit == 0 || limit > hashes {
			return fmt.Errorf("a limit of units of %d", limit)
		}
	}
	for i, c := range s.senders {
		if c.sender.id == "" || i > 0 && c.sender.id <= s.senders[i-1].sender.id {
			return errors.New("the processes are not in order")
		}
		if err := c.check(); err != nil {
			return err
		}
	}
	return checkEntries(s.units, hashes-1)
}

func (c copied) check() error {
	if c.halved > 64 || len(c.waiting) > maxPending || len(c.rows) > 2*maxSteps {
		return fmt.Errorf("%d events wait, after the limit was halved %d times, and counters at %d weights",
			len(c.waiting), c.halved, len(c.rows))
	}
	for i, row := range c.rows {
		if row.weight >= scale || i > 0 && row.weight <= c.rows[i-1].weight {
			return fmt.Errorf("counters at a weight of %d/%d", row.weight, scale)
		}
		for _, n := range row.n {
			if n > greatestCount {
				return fmt.Errorf("a counter of %d", n)
			}
		}
	}
	return checkEntries(c.waiting, math.MaxUint64)
}

// checkEntries returns an error if events are not in order, or have values that no process writes.
func checkEntries(all []entry, greatest uint64) error {
	for i, e := range all {
		unit := e.hash > 0 && e.hash < hashes || e.hash&requestBit != 0
		switch {
		case e.kind >= kinds || !unit || e.hash > greatest || e.first.from == nil || !randomised(int(e.first.weight)):
			return fmt.Errorf("an event of kind %d of the unit %d at a weight of %d/%d", e.kind, e.hash, e.first.weight, scale)
		case i > 0 && e.compare(all[i-1]) <= 0:
			return fmt.Errorf("the unit %d is not in order", e.hash)
		}
	}
	return nil
}

// ledger returns the counts of a state.
func (s state) ledger() *ledger {
	l := newLedger()
	for kind := range l.units {
		l.units[kind].limit.Store(s.limits[kind])
	}
	for _, c := range s.senders {
		c.sender.settled, c.sender.halved = c.settled, c.halved
		for _, row := range c.rows {
			step := c.sender.at(row.weight)
			for i, n := range row.n {
				step.n[i].Store(n)
			}
		}
		for _, e := range c.waiting {
			c.sender.waiting[e.key] = e.first
		}
		l.senders[c.sender.id] = c.sender
	}
	for _, e := range s.units {
		l.units[e.kind].add(e.hash, e.first)
	}
	return l
}
