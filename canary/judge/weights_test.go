package judge_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/cohort"
	"github.com/midair-go/midair/internal/testutil"
)

const manyWeights = 100_000

// rising returns a weight that is another one in each of manyWeights requests.
func rising(i int) float64 { return float64(i+1) / (manyWeights + 1) }

// A weight that rises with each request does not make the counters grow without end, of requests with units and without: the
// state and the deltas stay small, and so do those of the next process.
func TestCountersOfARisingWeightAreBounded(t *testing.T) {
	salt := strings.Repeat("s", 1023)
	j, err := judge.New(salt, judge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	receiver, next := j.Again("x").Again(salt), j.Again("y").Again(salt)
	learn(j)
	for i := range manyWeights {
		o := judge.Outcome{Weight: rising(i), Canary: i%2 == 0, Result: judge.Result(i % 3), Began: time.Duration(i)}
		if i%4 < 2 {
			o.Unit = fmt.Sprint(i % 5000)
		}
		j.Assigned(o.Unit, o.Weight, o.Canary, o.Began)
		j.Observe(o)
		if i%2000 == 0 {
			ingest(t, receiver, j.Delta())
		}
	}
	testutil.HandOver(t, j, next)
	for name, k := range map[string]*judge.Analysis{"sender": j, "receiver": receiver, "next": next} {
		s := k.Status()
		if len(s.Weights) > judge.MaxSteps || s.Rounded < manyWeights || s.NoPass == "" {
			t.Errorf("%s: %d weights, %d outcomes at rounded ones, no pass because %q", name, len(s.Weights), s.Rounded, s.NoPass)
		}
	}
	if s := j.Status(); s.Stable.Requests+s.Canary.Requests != manyWeights {
		t.Errorf("%d and %d of %d requests are counted", s.Stable.Requests, s.Canary.Requests, manyWeights)
	}
	if n := len(marshal(t, j)); n > 1<<20 {
		t.Errorf("a state of %d bytes", n)
	}
}

// Up to 64 weights are exact, whatever they are, and so are later ones of two digits. The others are rounded up, and still draw.
func TestFurtherWeightsAreRoundedUp(t *testing.T) {
	for weight, want := range map[int]int{
		1: 1, 99: 99, 100: 100, 101: 110, 110: 110, 500_000: 500_000, 1_250_000: 1_300_000, 9_900_001: 9_999_999, 9_999_999: 9_999_999,
	} {
		if got := judge.Coarse(weight); got != want {
			t.Errorf("%d became %d, want %d", weight, got, want)
		}
	}
	j := newJudge(t, judge.Options{})
	for i := range 64 {
		bad(j, .0001234+float64(i)/1000, i%2 == 0, 1)
	}
	if s := j.Status(); len(s.Weights) != 64 || s.Rounded != 0 || s.Weights[0].Weight != .0001234 {
		t.Errorf("got %+v", s.Weights)
	}
	for _, weight := range []float64{.5, .12345, .0001234} {
		bad(j, weight, true, 1)
	}
	s := j.Status()
	if got := fmt.Sprint(s.Weights[64].Weight, s.Weights[65].Weight, s.Rounded, len(s.Weights)); got != "0.13 0.5 1 66" {
		t.Errorf("got %s", got)
	}
}

// Whichever events have their weights rounded up, on either side, the evidence against the canary is not greater than that of
// the exact weights.
func TestRoundedWeightsNeverRaiseTheEvidence(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 12))
	for range 2000 {
		r0 := 1 + rng.Float64()
		var exact, rounded []judge.LabelsForTest
		for range 1 + rng.IntN(20) {
			weight, canary := math.Pow(10, -5*rng.Float64())*.999, float64(rng.IntN(2))
			exact = append(exact, judge.Labels(weight, canary, 1-canary))
			if rng.IntN(2) == 0 {
				weight = float64(judge.Coarse(judge.Quantise(weight))) / 1e7
			}
			rounded = append(rounded, judge.Labels(weight, canary, 1-canary))
		}
		if a, b := judge.LogE(r0, judge.Rises, exact...), judge.LogE(r0, judge.Rises, rounded...); b > a+1e-5 {
			t.Fatalf("the evidence of %v is exp(%v), and that of %v is exp(%v)", exact, a, rounded, b)
		}
	}
}

// A greater weight makes a canary look better than it is. So when weights were rounded up, there is neither a Pass nor an upper
// end of the risk.
func TestRoundedWeightsGiveNoPass(t *testing.T) {
	j := passing(t, time.Second)
	if s := j.Status(); s.Verdict != judge.Pass || s.Risk.Upper == 0 {
		t.Fatalf("before: %+v", s)
	}
	for i := range 70 {
		j.Observe(judge.Outcome{Weight: .12345 + float64(i)/1000})
	}
	s := j.Status()
	if s.Verdict != judge.Inconclusive || s.Pass < s.PassAt || s.Risk.Upper != 0 || s.Risk.Estimate != 0 || s.Rounded == 0 {
		t.Errorf("got %+v, no pass because %q", s, s.NoPass)
	}
}

// The judge knows from the next delta that another process has rounded weights up.
func TestRoundingIsInEachDelta(t *testing.T) {
	judging, candidate := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for i := range 500 {
		bad(candidate, .1+float64(i%80)/9999, true, 1)
		if i > 0 && i%80 == 0 { // more weights have changed than a delta has room for
			ingest(t, judging, candidate.Delta())
			if a, b := judging.Status().Rounded, candidate.Status().Rounded; a != b || b == 0 {
				t.Errorf("delta %d: %d outcomes at weights that were rounded up, the judge knows %d", i/80, b, a)
			}
		}
	}
}

// A canary that is worse is found also while the weight rises with each request.
func TestBadCanaryIsFoundWhileTheWeightRises(t *testing.T) {
	j := newJudge(t, judge.Options{})
	rng := rand.New(rand.NewPCG(13, 13))
	for i := range manyWeights / 2 {
		o := judge.Outcome{Unit: fmt.Sprint(i), Weight: rising(i)}
		o.Canary = cohort.In("a", o.Unit, o.Weight)
		if rng.IntN(1000) == 0 || i > manyWeights/4 && o.Canary && rng.IntN(100) == 0 {
			o.Result = judge.Bad
		}
		if j.Observe(o) && j.Verdict() == judge.Regression {
			if i < manyWeights/4 {
				t.Errorf("found at request %d, before it was worse", i)
			}
			return
		}
	}
	t.Errorf("not found: %+v", j.Status())
}

// The side of a process does not choose which weights are exact: each process has only the requests of its own side here, and
// each weight has one request. The counts of the sides are those of the weights, and neither a Regression nor Suspended.
func TestRisingWeightOfTwoProcessesIsNoRegression(t *testing.T) {
	judging, candidate := newJudge(t, judge.Options{Tolerance: 1}), newJudge(t, judge.Options{Tolerance: 1})
	testutil.HandOver(t, judging, candidate)
	rng := rand.New(rand.NewPCG(14, 14))
	for i := range manyWeights / 5 {
		weight := .02 + rising(i)
		side, canary := judging, rng.Float64() < weight
		if canary {
			side = candidate
		}
		side.Assigned("", weight, canary, 0)
		bad(side, weight, canary, 1)
		if i%100 == 0 {
			ingest(t, judging, candidate.Delta())
			if v := judging.Verdict(); v == judge.Regression || v == judge.Suspended {
				t.Fatalf("request %d: %+v", i, judging.Status())
			}
		}
	}
}
