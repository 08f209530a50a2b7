package judge_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
)

// A setting that cannot work is refused by an error that names it.
func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for name, opts := range map[string]judge.Options{
		"Alpha is -1":             {Alpha: -1},
		"Alpha is 0.6":            {Alpha: .6},
		"Alpha is 1e-13":          {Alpha: 1e-13},
		"Alpha is NaN":            {Alpha: math.NaN()},
		"Tolerance is 0.9":        {Tolerance: .9},
		"Tolerance is +Inf":       {Tolerance: math.Inf(1)},
		"SlowTolerance is 0.5":    {SlowTolerance: .5},
		"Slow is -1s":             {Slow: -time.Second},
		"Settle is -1s: choose":   {Settle: -time.Second},
		"SlowTolerance is 1001: ": {SlowTolerance: 1001},
	} {
		if _, err := judge.New("a", opts); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := judge.New("", judge.Options{}); err == nil {
		t.Error("no salt was accepted")
	}
}

// A weight is rounded to the nearest step, exactly if it is one, and a weight that does not draw is none.
func TestWeightsAreSteps(t *testing.T) {
	for i := range 10_001 {
		if got := judge.Quantise(float64(i) / 10_000); got != i*1000 {
			t.Errorf("%d/10000 became %d", i, got)
		}
	}
	for weight, want := range map[float64]int{
		math.NaN(): 0, -1: 0, 1e-9: 0, 1e-7: 1, .00011: 1100, .1 + .2: 3e6, .99999: 9_999_900, .99999999: 1e7, 2: 1e7,
		math.Inf(1): 1e7, math.Inf(-1): 0,
	} {
		if got := judge.Quantise(weight); got != want {
			t.Errorf("%v became %d, want %d", weight, got, want)
		}
	}
}

// Requests that the weight has not drawn are no evidence, on either side.
func TestWeightsThatDoNotDrawAreNoEvidence(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for _, weight := range []float64{0, -1, 1, 2, math.NaN(), math.Inf(1)} {
		bad(j, weight, true, 100)
		bad(j, weight, false, 100)
		if j.Assigned("", weight, true, 0) {
			t.Errorf("an assignment at a weight of %v has changed the evidence", weight)
		}
	}
	s := j.Status()
	if s.Evidence > 1+1e-9 || s.Canary != (judge.Counts{}) || s.Stable != (judge.Counts{}) || len(s.Weights) != 0 {
		t.Errorf("got %+v", s)
	}
}

// A good outcome takes no lock and allocates nothing, and neither does a further bad outcome of a unit allocate.
func TestRecorderDoesNotAllocate(t *testing.T) {
	j := newJudge(t, judge.Options{Slow: time.Second})
	learn(j)
	key := strings.Repeat("k", 36)
	for name, o := range map[string]judge.Outcome{
		"good":               {Unit: key, Weight: .05, Took: time.Millisecond},
		"good, without unit": {Weight: .05, Canary: true, Took: time.Millisecond},
		"bad again":          {Unit: key, Weight: .05, Result: judge.Panicked, Took: time.Hour},
		"bad, without unit":  {Weight: .05, Canary: true, Result: judge.Bad, Took: time.Hour},
	} {
		j.Observe(o)
		if n := testing.AllocsPerRun(100, func() { j.Observe(o); j.Assigned(o.Unit, o.Weight, o.Canary, o.Began) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { j.BadRate() }); n != 0 {
		t.Errorf("BadRate: %v allocations", n)
	}
}

// A good outcome is counted while the lock of the evidence is held.
func TestGoodOutcomeTakesNoLock(t *testing.T) {
	j := newJudge(t, judge.Options{})
	learn(j)
	j.Observe(judge.Outcome{Weight: .05})
	judge.WhileLocked(j, func() {
		j.Observe(judge.Outcome{Unit: "u", Weight: .05, Took: time.Millisecond})
		j.Observe(judge.Outcome{Unit: "u", Weight: .25, Canary: true, Took: time.Millisecond})
	})
	if s := j.Status(); s.Stable.Requests != 2 || s.Canary.Requests != 1 {
		t.Errorf("got %+v", s)
	}
}

// Outcomes from many goroutines, beside verdicts and deltas, are all counted, and each once.
func TestEachOutcomeCountsOnceFromManyGoroutines(t *testing.T) {
	const each, units = 500, 40
	j, receiver := newJudge(t, judge.Options{Slow: time.Second}), newJudge(t, judge.Options{Slow: time.Second})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() { // ends after each outcomes
			for i := range each {
				weight := []float64{.01, .05, .25}[i%3]
				o := judge.Outcome{Weight: weight, Canary: g%2 == 0, Result: judge.Result(i % 3), Took: time.Duration(i) * 4 * ms}
				j.Observe(o)
				j.Observe(failed(i%units, .05, i%units < 20, time.Duration(i%units)))
				j.Assigned(fmt.Sprint(i), .05, i%20 == 0, 0)
				if i%50 == 0 {
					j.Verdict()
					if err := receiver.Ingest(j.Delta()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if err := receiver.Ingest(j.Delta()); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]judge.Status{"sender": j.Status(), "receiver": receiver.Status()} {
		drawnBad, drawnSlow := 0, 0
		for i := range each {
			if i%3 != 0 {
				drawnBad++
			}
			if i%3 != 0 || i > 250 {
				drawnSlow++
			}
		}
		if s.Stable.Bad != uint64(4*drawnBad+20) || s.Canary.Bad != uint64(4*drawnBad+20) ||
			s.Stable.Requests+s.Canary.Requests != 8*each*2 || test(t, s, "slow").Canary != uint64(4*drawnSlow+20) {
			t.Errorf("%s: got %+v", name, s)
		}
	}
}

// A result that does not exist is no good outcome: a caller that counts its kinds wrongly would pass everything.
func TestUnknownResultIsNotGood(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for range 20 {
		j.Observe(judge.Outcome{Weight: .05, Canary: true, Result: judge.Panicked + 1})
	}
	if s := j.Status(); s.Canary.Requests == 20 && s.Canary.Bad == 0 {
		t.Errorf("got %+v", s.Canary)
	}
}
