package judge_test

import (
	"math"
	"testing"

	"github.com/midair-go/midair/canary/judge"
)

// The evidence of printed sequences is that of the formula, which was computed with rational numbers. C is an event of the canary
// and S is one of stable.
func TestEvidenceOfPrintedSequences(t *testing.T) {
	type l struct{ weight, canary, stable float64 }
	for name, row := range map[string]struct {
		r0          float64
		at          []l
		above, less float64
	}{
		"5%: CC":                        {1, []l{{.05, 2, 0}}, 101.33818506036337, 0.172247609539952},
		"5%: CC, tolerance":             {1.25, []l{{.05, 2, 0}}, 71.94595067163702, 0.17369888665867983},
		"5%: CSC":                       {1, []l{{.05, 2, 1}}, 18.862377087550783, 0.17531682849600802},
		"5%: CSC, tolerance":            {1.25, []l{{.05, 2, 1}}, 13.549623262142829, 0.1775482845856859},
		"25%: SSSS":                     {1, []l{{.25, 0, 4}}, 0.23197469864853207, 2.3266703139324534},
		"1%: SC, 5%: SSC, 25%: CS":      {1, []l{{.01, 1, 1}, {.05, 1, 2}, {.25, 1, 1}}, 8.665302842566609, 0.13494504492209586},
		"1%: SC, 5%: SSC, 25%: CS, tol": {1.25, []l{{.01, 1, 1}, {.05, 1, 2}, {.25, 1, 1}}, 5.72145691911487, 0.14107421101350487},
	} {
		var labels []judge.LabelsForTest
		for _, x := range row.at {
			labels = append(labels, judge.Labels(x.weight, x.canary, x.stable))
		}
		above := math.Exp(judge.LogE(row.r0, judge.Rises, labels...))
		less := math.Exp(judge.LogE(row.r0, judge.Falls, labels...))
		if !near(above, row.above) || !near(less, row.less) {
			t.Errorf("%s: evidence of %v above r0 and %v below, want %v and %v", name, above, less, row.above, row.less)
		}
	}
}

func near(got, want float64) bool { return math.Abs(got/want-1) < 1e-12 }

// A canary that always fails beside a stable that never does is found at its second event, with a single test at r0 = 1.
func TestTotalFailureIsFoundAtItsSecondEvent(t *testing.T) {
	for _, weight := range []float64{.01, .05} {
		one := judge.LogE(1, judge.Rises, judge.Labels(weight, 1, 0))
		two := judge.LogE(1, judge.Rises, judge.Labels(weight, 2, 0))
		if one >= math.Log(100) || two < math.Log(100) {
			t.Errorf("weight %v: evidence of %.3g after one event and %.3g after two", weight, math.Exp(one), math.Exp(two))
		}
	}
}

// Millions of events overflow nothing, and a test without events has an evidence of 1.
func TestEvidenceIsANumberForAnyCounts(t *testing.T) {
	for _, l := range []judge.LabelsForTest{
		judge.Labels(.0001, 1e9, 0), judge.Labels(.9999, 0, 1e9), judge.Labels(.5, 1e9, 1e9), judge.Labels(.0001, 0, 1e9),
	} {
		for _, factors := range []judge.Alternatives{judge.Rises, judge.Falls, judge.PassFalls} {
			for _, r0 := range []float64{1e-6, 1, 1.25, 1e6} {
				if e := judge.LogE(r0, factors, l); math.IsNaN(e) || math.IsInf(e, 0) {
					t.Errorf("%v at r0 = %v: %v", l, r0, e)
				}
			}
		}
	}
	if e := judge.LogE(1.25, judge.Rises); math.Abs(e) > 1e-12 {
		t.Errorf("without events: %v", e)
	}
}

// Each event has an expected factor of at most 1 for every relative risk of the null hypothesis, at every weight: that is what
// makes the evidence a supermartingale.
func TestNoEventRaisesTheEvidenceInTheMean(t *testing.T) {
	for _, weight := range []float64{.0001, .01, .05, .25, .5, .9, .9999} {
		for _, r0 := range []float64{1, 1.25, 2} {
			for _, r := range []float64{0, .1, .5, .9, 1} {
				mean(t, weight, r0, r*r0, judge.Rises)
				if r > 0 {
					mean(t, weight, r0, r0/r, judge.Falls)
				}
			}
		}
	}
}

func mean(t *testing.T, weight, r0, r float64, factors judge.Alternatives) {
	t.Helper()
	theta := weight * r / (weight*r + 1 - weight)
	for i := range factors {
		one := factors[i : i+1]
		e := theta*math.Exp(judge.LogE(r0, one, judge.Labels(weight, 1, 0))) +
			(1-theta)*math.Exp(judge.LogE(r0, one, judge.Labels(weight, 0, 1)))
		if e > 1+1e-9 {
			t.Errorf("weight %v, r0 %v, true risk %v, factor %v: a mean of %v", weight, r0, r, one, e)
		}
	}
}
