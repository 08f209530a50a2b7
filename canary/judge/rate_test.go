package judge_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/testutil"
)

// A drift is how the probability of a bad outcome changes: by the number of the request, and by the share of bad outcomes so far.
type drift struct {
	name string
	rate func(rng *rand.Rand, i int, share float64) float64
}

// users returns rates of 2,000 users, of whom every hundredth has a broken client.
func users() func(rng *rand.Rand, i int, share float64) float64 {
	user := zipf(2000)
	return func(rng *rand.Rand, _ int, _ float64) float64 {
		if user(rng)%100 == 7 {
			return .5
		}
		return .001
	}
}

var drifts = []drift{
	{"0.1 %", func(*rand.Rand, int, float64) float64 { return .001 }},
	{"5 %", func(*rand.Rand, int, float64) float64 { return .05 }},
	{"90 %", func(*rand.Rand, int, float64) float64 { return .9 }},
	{"swings", func(_ *rand.Rand, i int, _ float64) float64 { return .1 * (1 + math.Sin(float64(i)/300)) }},
	{"a jump from 0.1 to 20 %", func(_ *rand.Rand, i int, _ float64) float64 { return []float64{.001, .2}[min(1, i/1000)] }},
	{"by what was before", func(_ *rand.Rand, _ int, share float64) float64 {
		if share < .1 {
			return .15
		}
		return .02
	}},
	{"broken users", users()},
}

// leaves reports on which sides the interval has not had the mean of the probabilities, in so many looks.
func (d drift) leaves(rng *rand.Rand, looks int, alpha float64) (below, above bool) {
	bad, sum := 0.0, 0.0
	for i := range looks {
		n := float64(i + 1)
		p := d.rate(rng, i, bad/n)
		sum += p
		if rng.Float64() < p {
			bad++
		}
		lower, upper := judge.RateOf(bad, n, alpha)
		below, above = below || sum/n < lower, above || sum/n > upper
	}
	return below, above
}

// The interval has the mean of the rates at all times together, also if the rates drift, depend on the past, or are those of
// users. Each end has half of alpha.
func TestIntervalHasTheMeanRate(t *testing.T) {
	const alpha = .05
	runs, looks := 20, 3000
	if *simulations > 0 {
		runs, looks = *simulations, 10_000
	}
	for _, d := range drifts {
		rng := rand.New(rand.NewPCG(11, 11))
		low, high := 0, 0
		for range runs {
			below, above := d.leaves(rng, looks, alpha)
			if below {
				low++
			}
			if above {
				high++
			}
		}
		t.Logf("| %s | the mean was below in %d of %d, above in %d |", d.name, low, runs, high)
		if most := accepted(runs, alpha/2); low > most || high > most {
			t.Errorf("%s: the mean was below the interval in %d of %d runs, and above it in %d", d.name, low, runs, high)
		}
	}
}

// The interval is narrow enough to be of use: a canary is soon known to be below a limit, or above one. The expected numbers of
// bad outcomes are those of the rate.
func TestRateIsSoonBelowOrAboveALimit(t *testing.T) {
	for _, row := range []struct{ rate, limit, most float64 }{
		{0, .01, 800}, {.001, .01, 1250}, {.001, .002, 40_000}, {.005, .01, 8000}, {.2, .05, 100}, {1, .05, 12}, {.02, .01, 2400},
	} {
		n := 1.0
		for ; n < 1e6; n++ {
			lower, upper := judge.RateOf(math.Round(n*row.rate), n, .01)
			if row.rate < row.limit && upper < row.limit || row.rate > row.limit && lower > row.limit {
				break
			}
		}
		t.Logf("| rate %v | limit %v | %v requests |", row.rate, row.limit, n)
		if n > row.most {
			t.Errorf("a rate of %v is known to be on its side of %v after %v requests", row.rate, row.limit, n)
		}
	}
}

// The ends are an interval from 0 to 1 for any counts.
func TestRateIsANumberForAnyCounts(t *testing.T) {
	for _, n := range []float64{1, 2, 100, 1e9, 1e15} {
		for _, share := range []float64{0, 1e-9, .5, 1} {
			bad := math.Floor(share * n)
			if lower, upper := judge.RateOf(bad, n, 1e-12); !(0 <= lower && lower <= bad/n && bad/n <= upper && upper <= 1) {
				t.Errorf("%v of %v: from %v to %v", bad, n, lower, upper)
			}
		}
	}
	if lower, upper := newJudge(t, judge.Options{}).BadRate(); lower != 0 || upper != 1 {
		t.Errorf("without requests: from %v to %v", lower, upper)
	}
}

// Each bad outcome of a request of the canary counts in the rate at once: that of a unit that has failed before, one that waits
// for Settle, and one of a request that is still running. Those of stable, and at weights that do not draw, do not.
func TestRateCountsEachRequestOfTheCanary(t *testing.T) {
	j := newJudge(t, judge.Options{Settle: time.Hour})
	for i := range 100 {
		j.Observe(judge.Outcome{Unit: "u", Weight: .05, Canary: true, Result: judge.Result(i % 2), Began: time.Duration(i)})
		j.Observe(failed(i, .05, false, 0))
		j.Observe(failed(i, 1, true, 0))
		j.LeaveOut(true)
	}
	r := j.Status().Rate
	if lower, upper := judge.RateOf(50, 100, .01); r != (judge.Rate{Estimate: .5, Lower: lower, Upper: upper}) {
		t.Errorf("got %+v, want from %v to %v", r, lower, upper)
	}
	for i := range 50 { // half of these requests end later, and are reported as good then
		o := judge.Outcome{Weight: .25, Canary: true, Result: judge.Bad, Running: true, Took: ms}
		j.Observe(o)
		if i%2 == 0 {
			o.Running, o.Result, o.Reported = false, judge.Good, ms
			j.Observe(o)
		}
	}
	lower, upper := j.BadRate()
	if _, want := judge.RateOf(100, 125, .01); upper != want {
		t.Errorf("an upper end of %v, want that of 100 of 125: %v", upper, want)
	}
	if want, _ := judge.RateOf(100, 175, .01); lower != want {
		t.Errorf("a lower end of %v, want that of 100 of 175: %v", lower, want)
	}
}

// The judge knows the rate of a canary that is another process, and counts each request once.
func TestRatePassesBetweenProcesses(t *testing.T) {
	judging, candidate := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for i := range 300 {
		candidate.Observe(judge.Outcome{Unit: "u", Weight: .05, Canary: true, Result: judge.Result(i % 2)})
		if i%10 == 0 {
			ingest(t, judging, candidate.Delta())
		}
	}
	ingest(t, judging, candidate.Delta())
	testutil.HandOver(t, candidate, judging)
	if got, want := judging.Status().Rate, candidate.Status().Rate; got != want || want.Estimate != .5 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
