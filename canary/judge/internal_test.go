package judge

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func newForTest() *Analysis {
	return newAnalysis("a", Options{Alpha: .01, Tolerance: 1.25, SlowTolerance: 1.1})
}

// The thresholds in a delta are those for which its counters were counted, or later ones.
func TestDeltaNamesTheThresholdsOfItsCounters(t *testing.T) {
	for run := range 300 {
		a := newForTest()
		for w := range deltaRows {
			a.Observe(Outcome{Weight: float64(w+1) / 100, Canary: true})
		}
		for range baseline - 1 {
			a.latency.learn(1)
		}
		var all sync.WaitGroup
		all.Go(func() { // ends at once
			a.latency.learn(1)
			for w := range deltaRows {
				a.Observe(Outcome{Weight: float64(w+1) / 100, Canary: true, Took: time.Hour})
			}
		})
		for range 20 {
			s, err := decode(a.Delta())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range s.senders[0].rows {
				if s.cuts[0] == 0 && c.n[eventsOf(slow, true)] > 0 {
					all.Wait()
					t.Fatalf("run %d: %d events of a threshold that the delta does not name", run, c.n[eventsOf(slow, true)])
				}
			}
		}
		all.Wait()
	}
}

// The outbox has each unit once: events that come in falling order of their beginnings do not make it longer without end.
func TestOutboxIsBounded(t *testing.T) {
	a := newForTest()
	for i := range 10_000 {
		a.Observe(Outcome{Unit: "u", Weight: .05, Result: Bad, Began: -time.Duration(i)})
	}
	if n := len(a.out.urgent) + len(a.out.others) + len(a.out.sent) + len(a.out.queued); n != 2 {
		t.Errorf("one unit has %d entries", n)
	}
}

// A state that no process writes is refused, also if its checksum is right.
func TestStatesThatNoProcessWritesAreRefused(t *testing.T) {
	row := func(weight int, n uint64) (c count) {
		c.weight = weight
		for i := range c.n {
			c.n[i] = n
		}
		return c
	}
	var many tally
	for weight := range 2*maxSteps + 1 {
		many = append(many, row(weight, 1))
	}
	x := newSender("x")
	unit := func(hash uint64) entry { return entry{key: key{hash: hash}, first: first{weight: 5, from: x}} }
	with := func(rows ...count) func(*state) {
		return func(s *state) { s.senders = []copied{{sender: x, rows: rows}} }
	}
	for name, change := range map[string]func(s *state){
		"unknown flags":       func(s *state) { s.flags = 0x80 },
		"an infinite peak":    func(s *state) { s.peak = math.Inf(1) },
		"other options":       func(s *state) { s.opts.Alpha = 2 },
		"no limit":            func(s *state) { s.limits[badKind] = 0 },
		"a weight twice":      with(row(5, 1), row(5, 2)),
		"falling weights":     with(row(5, 1), row(4, 2)),
		"too many weights":    func(s *state) { s.senders = []copied{{sender: x, rows: many}} },
		"sums overflow":       with(row(5, math.MaxUint64)),
		"a process twice":     func(s *state) { s.senders = []copied{{sender: x}, {sender: x}} },
		"a unit twice":        func(s *state) { s.units = []entry{unit(1), unit(1)} },
		"a hash too great":    func(s *state) { s.units = []entry{unit(1 << 60)} },
		"a request as a unit": func(s *state) { s.units = []entry{unit(requestBit | 1)} },
	} {
		s := newForTest().copyHead()
		s.senders = []copied{{sender: x}}
		if _, err := decode(s.encode()); err != nil {
			t.Fatal(err)
		}
		change(&s)
		if _, err := decode(s.encode()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A tally has the counts of one moment, or fewer events of the canary. At each moment here, stable has one bad outcome more than
// the canary. Its counter is at the first of many weights, and that of the canary is at the last one, so that it is a long way
// from one to the other.
func TestTallyHasNoEventsOfTheCanaryThatAreLaterThanThoseOfStable(t *testing.T) {
	a := newForTest()
	for w := range 50 {
		a.Observe(Outcome{Weight: float64(w+1) / 1000})
	}
	a.Observe(Outcome{Weight: .001, Result: Bad})
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() { // ends with stop
		for !stop.Load() {
			a.Observe(Outcome{Weight: .001, Result: Bad})
			a.Observe(Outcome{Weight: .05, Result: Bad, Canary: true})
		}
	})
	defer all.Wait()
	defer stop.Store(true)
	for range 500 {
		a.mu.Lock()
		tally, exact := a.tally()
		a.mu.Unlock()
		c, s := tally.sum(eventsOf(badKind, true)), tally.sum(eventsOf(badKind, false))
		if c >= s || exact && c+2 < s {
			t.Fatalf("%d events of the canary and %d of stable, of which there was always one more", c, s)
		}
	}
}

// Two processes that are joined count each event that waited once, also if each has settled some of them before.
func TestWaitingEventsOfAProcessCountOnceInAnyOrder(t *testing.T) {
	for order := range 4 {
		a, b := newForTest(), newForTest()
		a.opts.Load().Settle, b.opts.Load().Settle = 10, 10
		for i := range 100 {
			a.Observe(Outcome{Weight: .05, Canary: i%20 == 0, Result: Bad, Began: time.Duration(i)})
		}
		give := func(from, to *Analysis) {
			data, err := from.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if err := to.UnmarshalBinary(data); err != nil {
				t.Fatal(err)
			}
		}
		a.Settle(30)
		give(a, b)
		first, second := a, b
		if order%2 == 1 {
			first, second = b, a
		}
		first.Settle(60)
		give(a, b)
		if order > 1 {
			give(b, a)
		}
		second.Settle(80)
		give(b, a)
		give(a, b)
		a.Settle(1000)
		b.Settle(1000)
		give(b, a)
		for name, j := range map[string]*Analysis{"sender": a, "receiver": b} {
			if s := j.Status(); s.Stable.Bad != 95 || s.Canary.Bad != 5 || s.Waiting != 0 {
				t.Errorf("order %d, %s: %d and %d of 95 and 5 events, %d wait", order, name, s.Stable.Bad, s.Canary.Bad, s.Waiting)
			}
		}
	}
}
