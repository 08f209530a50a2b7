package judge_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/cohort"
)

// A request of a simulation. Its fate does not depend on the side, because the canary is no worse.
type request struct {
	unit   int // -1: none
	result judge.Result
	took   time.Duration
}

// A world is a rollout of a canary that is no worse than stable.
type world struct {
	name     string
	requests int
	weight   func(done float64) float64 // done is the part of the requests that has been sent
	next     func(rng *rand.Rand, done float64) request
	// settle and late are for worlds in which a bad request takes late of the side, instead of its own duration.
	settle time.Duration
	late   map[bool]time.Duration
	// counted is for worlds in which the share is counted out: of each block of requests whose weights add up to 1, chance chooses
	// one, as package upgrade does with connections.
	counted bool
}

// A counter counts out the requests of the canary.
type counter struct{ sum, place float64 }

func (c *counter) draw(rng *rand.Rand, weight float64) (canary bool) {
	from := c.sum
	c.sum += weight
	canary = from <= c.place && c.place < c.sum
	if c.sum < 1 {
		return canary
	}
	c.sum-- // the interval of the request may end in the next block, which must not choose the request again
	if !canary && rng.Float64() < c.sum/from {
		c.place = c.sum * rng.Float64()
		return true
	}
	c.place = c.sum + (1-c.sum)*rng.Float64()
	return canary
}

func at(weight float64) func(float64) float64 { return func(float64) float64 { return weight } }

func ramp(done float64) float64 { return []float64{.01, .05, .25, .5}[min(3, int(done*4))] }

// fails returns requests without a unit that fail with a probability.
func fails(p func(rng *rand.Rand, done float64) float64) func(*rand.Rand, float64) request {
	return func(rng *rand.Rand, done float64) request {
		r := request{unit: -1}
		if rng.Float64() < p(rng, done) {
			r.result = judge.Bad
		}
		return r
	}
}

func constant(p float64) func(*rand.Rand, float64) float64 {
	return func(*rand.Rand, float64) float64 { return p }
}

// zipf draws of n users, of which the k-th sends 1/k as many requests as the first.
func zipf(n int) func(rng *rand.Rand) int {
	sums := make([]float64, n)
	sum := 0.0
	for i := range sums {
		sum += 1 / float64(i+1)
		sums[i] = sum
	}
	return func(rng *rand.Rand) int { return min(n-1, sort.SearchFloat64s(sums, rng.Float64()*sum)) }
}

// broken returns requests of 2,000 users, of whom every hundredth has a broken client, which fails in half of the requests.
func broken() func(*rand.Rand, float64) request {
	user := zipf(2000)
	return func(rng *rand.Rand, _ float64) request {
		r := request{unit: user(rng)}
		if r.unit%100 == 7 && rng.IntN(2) == 0 || rng.IntN(1000) == 0 {
			r.result = judge.Bad
		}
		return r
	}
}

// slowUsers returns requests of 2,000 users with connections that are not equally fast.
func slowUsers() func(*rand.Rand, float64) request {
	user := zipf(2000)
	speed := rand.New(rand.NewPCG(7, 7))
	scale := make([]float64, 2000)
	for i := range scale {
		scale[i] = math.Exp(.7 * speed.NormFloat64())
	}
	return func(rng *rand.Rand, _ float64) request {
		r := request{unit: user(rng)}
		r.took = time.Duration(1e8 * scale[r.unit] * math.Exp(.3*rng.NormFloat64()))
		return r
	}
}

func (w world) withoutUnits(name string) world {
	next := w.next
	w.name, w.next = name, func(rng *rand.Rand, done float64) request {
		r := next(rng, done)
		r.unit = -2 - r.unit // the unit decides the side, and the judge does not know the unit
		return r
	}
	return w
}

var worlds = []world{
	{name: "constant", requests: 40_000, weight: at(.05), next: fails(constant(.01))},
	{name: "drifting", requests: 40_000, weight: at(.05), next: fails(func(_ *rand.Rand, done float64) float64 {
		return .001 * (1 + 9*(1+math.Sin(20*math.Pi*done)))
	})},
	{name: "bursty", requests: 40_000, weight: at(.05), next: fails(func(_ *rand.Rand, done float64) float64 {
		if int(done*400)%20 == 3 {
			return .2
		}
		return .001
	})},
	{name: "ramping", requests: 40_000, weight: ramp, next: fails(constant(.01))},
	{name: "sticky, heavy-tailed", requests: 60_000, weight: at(.05), next: broken()},
	{name: "sticky, heavy-tailed, ramping", requests: 60_000, weight: ramp, next: broken()},
	{name: "finite pool", requests: 10_000, weight: ramp, next: func(rng *rand.Rand, _ float64) request {
		return request{unit: rng.IntN(300), result: judge.Result(rng.IntN(20) / 19)}
	}},
	{name: "no errors", requests: 10_000, weight: ramp, next: fails(constant(0))},
	{name: "all errors", requests: 4000, weight: ramp, next: fails(constant(1))},
	{name: "all errors, sticky", requests: 10_000, weight: ramp, next: func(rng *rand.Rand, _ float64) request {
		return request{unit: rng.IntN(2000), result: judge.Panicked}
	}},
	{name: "more units than there is room", requests: 40_000, weight: ramp, next: func(rng *rand.Rand, _ float64) request {
		return request{unit: rng.IntN(40_000), result: judge.Bad}
	}},
	{name: "keyed latency", requests: 30_000, weight: at(.05), next: slowUsers()},
	{name: "latency, no units", requests: 4000, weight: ramp, next: func(rng *rand.Rand, _ float64) request {
		return request{unit: -1, took: time.Duration(1e8 * math.Exp(.5*rng.NormFloat64()))}
	}},
	{name: "rising with each request", requests: 8000, weight: func(done float64) float64 { return .001 + done/2 },
		next: fails(constant(.05))},
	{name: "rising with each request, other delays, settled", requests: 8000, settle: 31 * time.Second,
		weight: func(done float64) float64 { return .02 + done/2 }, next: fails(constant(1)),
		late: map[bool]time.Duration{true: time.Second, false: 30 * time.Second}},
	{name: "counted connections", requests: 40_000, weight: ramp, next: fails(constant(.01)), counted: true},
	{name: "counted connections of which half fail", requests: 4000, weight: ramp, next: fails(constant(.5)), counted: true},
	{name: "counted connections that all fail", requests: 4000, weight: ramp, next: fails(constant(1)), counted: true},
	{name: "counted connections at 25 %", requests: 4000, weight: at(.25), next: fails(constant(.3)), counted: true},
	{name: "other delays, settled", requests: 40_000, weight: ramp, next: fails(constant(.01)),
		settle: 31 * time.Second, late: map[bool]time.Duration{true: time.Second, false: 30 * time.Second}},
}

// An alarm is what a run of a world has ended in.
type alarm struct{ regression, suspended, naive bool }

// run sends the requests of a world, 100 a second. The tolerances are 1: there is no distance to the null hypothesis.
func (w world) run(t testing.TB, salt string, seed uint64, keys []string) (a alarm) {
	j, err := judge.New(salt, judge.Options{Tolerance: 1, SlowTolerance: 1, Settle: w.settle})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 4))
	z := new(zTest)
	count := &counter{place: rng.Float64()}
	waiting := map[bool][]judge.Outcome{} // bad outcomes that are reported later, by side
	for i := range w.requests {
		done := float64(i) / float64(w.requests)
		r := w.next(rng, done)
		o := judge.Outcome{Weight: w.weight(done), Result: r.result, Took: r.took, Began: time.Duration(i) * 10 * ms}
		o.Canary = rng.Float64() < o.Weight
		if w.counted {
			o.Unit, o.Canary = fmt.Sprint("connection ", i), count.draw(rng, o.Weight)
		} else if r.unit >= 0 {
			o.Unit = keys[r.unit]
			o.Canary = cohort.In(salt, o.Unit, o.Weight)
		} else if r.unit < -1 {
			o.Canary = cohort.In(salt, keys[-2-r.unit], o.Weight)
		}
		if r.unit >= -1 {
			j.Assigned(o.Unit, o.Weight, o.Canary, o.Began)
		}
		changed := false
		if w.late != nil && r.result != judge.Good {
			o.Took = w.late[o.Canary]
			waiting[o.Canary] = append(waiting[o.Canary], o)
		} else {
			changed = j.Observe(o)
		}
		for side, q := range waiting {
			for len(q) > 0 && q[0].Began+q[0].Took <= o.Began {
				changed = j.Observe(q[0]) || changed
				q = q[1:]
			}
			waiting[side] = q
		}
		if i%100 == 0 && w.settle > 0 {
			changed = j.Settle(o.Began) || changed
		}
		if changed {
			v := j.Verdict()
			a.regression = a.regression || v == judge.Regression
			a.suspended = a.suspended || v == judge.Suspended
		}
		a.naive = z.look(o.Canary, r.result != judge.Good || r.took > 2e8) || a.naive
		if a.regression && a.naive {
			return a
		}
	}
	return a
}

// A zTest compares two proportions after each 200 requests, with the limit for 1 % in a single look.
type zTest struct{ n, bad [2]float64 }

func (z *zTest) look(canary, bad bool) bool {
	side := 0
	if canary {
		side = 1
	}
	z.n[side]++
	if bad {
		z.bad[side]++
	}
	all := z.n[0] + z.n[1]
	if int(all)%200 != 0 || z.n[0] == 0 || z.n[1] == 0 {
		return false
	}
	p := (z.bad[0] + z.bad[1]) / all
	return (z.bad[1]/z.n[1]-z.bad[0]/z.n[0])/math.Sqrt(p*(1-p)*(1/z.n[0]+1/z.n[1])) > 2.326
}

// alarms returns how many of so many runs end in each alarm.
func (w world) alarms(t testing.TB, runs int) (regressions, suspended, naive int) {
	keys := make([]string, 40_000)
	for i := range keys {
		keys[i] = fmt.Sprint("user-", i)
	}
	for run := range runs {
		a := w.run(t, fmt.Sprint("salt-", run), uint64(run), keys)
		for at, happened := range map[*int]bool{&regressions: a.regression, &suspended: a.suspended, &naive: a.naive} {
			if happened {
				*at++
			}
		}
	}
	return regressions, suspended, naive
}

// A canary that is no worse than stable is judged a regression in at most 1 % of all rollouts, with a look after each
// request. The check can fail: a z-test that looks after each 200 requests calls many times as many a regression.
func TestHealthyCanaryIsNoRegression(t *testing.T) {
	runs := max(*simulations, 5)
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			if testing.Short() && runs == 5 {
				w.requests = min(w.requests, 5000)
			}
			regressions, suspended, naive := w.alarms(t, runs)
			t.Logf("| %s | %d of %d | %d | %d |", w.name, regressions, runs, suspended, naive)
			if regressions > accepted(runs, .01) || suspended > accepted(runs, .001) {
				t.Errorf("%d of %d runs were a regression, and %d were suspended", regressions, runs, suspended)
			}
		})
	}
}

// Each of three mistakes makes a judge that is wrong too often: counting the requests of broken users, counting the slow requests
// of slow users, and counting the side that fails sooner first.
func TestMistakesThatAreWrongTooOften(t *testing.T) {
	if *simulations == 0 {
		t.Skip("run with -midair.simulate=2000")
	}
	runs := min(*simulations, 400)
	find := func(name string) world {
		return worlds[slices.IndexFunc(worlds, func(w world) bool { return w.name == name })]
	}
	unsettled := find("other delays, settled")
	unsettled.name, unsettled.settle = "other delays, not settled", 0
	for _, w := range []world{
		find("sticky, heavy-tailed").withoutUnits("sticky, each request counts"),
		find("keyed latency").withoutUnits("keyed latency, each request counts"),
		unsettled,
	} {
		regressions, _, _ := w.alarms(t, runs)
		t.Logf("| %s | %d of %d |", w.name, regressions, runs)
		if regressions <= accepted(runs, .01) {
			t.Errorf("%s: only %d of %d runs were a regression", w.name, regressions, runs)
		}
	}
}

// A canary that is twice as bad passes with a probability of at most 5 %.
func TestBadCanaryDoesNotPass(t *testing.T) {
	runs, passed := max(*simulations, 200), 0
	rng := rand.New(rand.NewPCG(5, 5))
	for range runs {
		for bad, all := 0.0, 1.0; all < 3000; all++ {
			if rng.Float64() < .05*2/(.05*2+.95) {
				bad++
			}
			if judge.LogE(2, judge.PassFalls, judge.Labels(.05, bad, all-bad)) >= math.Log(20) {
				passed++
				break
			}
		}
	}
	t.Logf("%d of %d passed", passed, runs)
	if passed > accepted(runs, .05) {
		t.Errorf("%d of %d canaries that are twice as bad have passed", passed, runs)
	}
}
