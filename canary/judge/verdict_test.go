package judge_test

import (
	"math"
	"testing"

	"github.com/midair-go/midair/canary/judge"
)

// An event counts with the weight of its own request, and the evidence of all weights is multiplied: alpha is spent once.
func TestEvidenceGoesOnThroughTheStepsOfTheWeight(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for _, o := range []struct {
		weight float64
		canary bool
	}{{.01, false}, {.01, true}, {.05, false}, {.25, true}, {.05, false}, {.05, true}, {.25, false}} {
		bad(j, o.weight, o.canary, 1)
		j.Verdict()
	}
	s := j.Status()
	if got := test(t, s, "bad").Evidence; !near(got, 5.72145691911487) {
		t.Errorf("the evidence is %v", got)
	}
	if want := .4*5.72145691911487 + .6; !near(s.Evidence, want) {
		t.Errorf("all tests together: %v, want %v", s.Evidence, want)
	}
	if !near(s.Pass, 0.35076427382534053) {
		t.Errorf("the evidence for a pass is %v", s.Pass)
	}
}

// The evidence of all tests is their mean by fixed shares: a test alone is a regression at 1/(share alpha), and several weak
// tests can be one together.
func TestTestsAreCombinedByTheirMean(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for j.Verdict() != judge.Regression {
		bad(j, .05, true, 1)
		s := j.Status()
		if e := test(t, s, "bad").Evidence; (.4*e+.6 >= 100) != (s.Verdict == judge.Regression) {
			t.Fatalf("%v with an evidence of %v", s.Verdict, e)
		}
	}
	sum := 0.0
	for _, r := range j.Status().Tests {
		sum += r.Share
	}
	if math.Abs(sum-1) > 1e-12 {
		t.Errorf("the shares are %v together", sum)
	}
	k := newJudge(t, judge.Options{Slow: 1})
	k.Observe(judge.Outcome{Weight: .05, Canary: true, Result: judge.Panicked})
	k.Observe(judge.Outcome{Weight: .05, Canary: true, Result: judge.Panicked})
	s := k.Status()
	one, two := test(t, s, "bad").Evidence, test(t, s, "panic").Evidence
	if want := .4*one + .2*two + .4; one != two || !near(s.Evidence, want) {
		t.Errorf("evidence of %v and %v is %v together, want %v", one, two, s.Evidence, want)
	}
}

// At a single test's 1/alpha the verdict is not yet a regression: with the least of six p values, alpha would be six times as
// great.
func TestLeastPValueDecidesNothing(t *testing.T) {
	j := newJudge(t, judge.Options{Tolerance: 1})
	bad(j, .05, true, 2)
	s := j.Status()
	if e := test(t, s, "bad").Evidence; e < 100 || s.Verdict != judge.Amber || s.Evidence >= 100 {
		t.Errorf("%v with an evidence of %v, and of %v for bad outcomes", s.Verdict, s.Evidence, e)
	}
}

// Amber is on the way to a regression, and goes away with the evidence. The peak stays.
func TestAmberGoesWithTheEvidence(t *testing.T) {
	j := newJudge(t, judge.Options{})
	bad(j, .05, true, 2)
	if s := j.Status(); s.Verdict != judge.Amber || s.Evidence < s.AmberAt {
		t.Fatalf("got %v at %v", s.Verdict, s.Evidence)
	}
	bad(j, .05, false, 30)
	if s := j.Status(); s.Verdict != judge.Inconclusive || s.Peak < s.AmberAt || s.Evidence >= s.AmberAt {
		t.Errorf("got %v at %v, with a peak of %v", s.Verdict, s.Evidence, s.Peak)
	}
}

// A regression is the last verdict: no evidence of any kind takes it back.
func TestRegressionIsTheLastVerdict(t *testing.T) {
	j := newJudge(t, judge.Options{})
	bad(j, .05, true, 10)
	if v := j.Verdict(); v != judge.Regression {
		t.Fatalf("got %v", v)
	}
	bad(j, .05, false, 10_000)
	for range 200 {
		j.Assigned("", .05, true, 0)
	}
	if s := j.Status(); s.Evidence > 1 || s.Assignment.Evidence < 1000 || s.Verdict != judge.Regression {
		t.Errorf("got %v at %v", s.Verdict, s.Evidence)
	}
}

// A new try with the same salt goes on with the old evidence and its verdict, because the cohort has the same units. Only a new
// salt begins anew.
func TestKeptSaltKeepsTheEvidence(t *testing.T) {
	j := newJudge(t, judge.Options{Tolerance: 1.5})
	bad(j, .05, true, 10)
	j.Verdict()
	if s := j.Again("a").Status(); s.Verdict != judge.Regression || s.Canary.Bad != 10 {
		t.Errorf("same salt: %+v", s)
	}
	if s := j.Again("").Status(); s.Verdict != judge.Regression {
		t.Errorf("no salt: %+v", s)
	}
	s := j.Again("b").Status()
	if s.Verdict != judge.Inconclusive || s.Canary.Bad != 0 || test(t, s, "bad").Tolerance != 1.5 {
		t.Errorf("new salt: %+v", s)
	}
}

// A canary that is no worse passes, but not while something is left out on one side only, and never if requests have units.
func TestPassNeedsTheRequestsOfBothSides(t *testing.T) {
	j := newJudge(t, judge.Options{})
	bad(j, .25, true, 20)
	bad(j, .25, false, 100)
	if v := j.Verdict(); v != judge.Pass {
		t.Fatalf("got %v at %v", v, j.Status().Pass)
	}
	j.LeaveOut(true)
	if s := j.Status(); s.Verdict != judge.Inconclusive || s.NoPass == "" || s.Canary.LeftOut != 1 {
		t.Errorf("left out of the canary: %+v", s)
	}
	j.LeaveOut(false)
	if s := j.Status(); s.Verdict != judge.Pass || s.NoPass != "" {
		t.Errorf("left out of both: %+v", s)
	}
	j.Observe(judge.Outcome{Unit: "u", Weight: .25})
	if s := j.Status(); s.Verdict != judge.Inconclusive || s.NoPass == "" {
		t.Errorf("with a unit: %+v", s)
	}
}

// Without events there is neither a pass nor a regression.
func TestNothingIsKnownWithoutEvents(t *testing.T) {
	j := newJudge(t, judge.Options{})
	took(j, true, 1, 10_000)
	took(j, false, 1, 190_000)
	if s := j.Status(); s.Verdict != judge.Inconclusive || s.Evidence > 1.000001 || s.Pass > 1.000001 {
		t.Errorf("got %+v", s)
	}
}

// An assignment that is not that of the weight suspends the verdict: a regression that comes from it is none.
func TestWrongAssignmentSuspendsTheVerdict(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for i := range 4000 {
		j.Assigned(failed(i, 0, false, 0).Unit, .05, i%2 == 0, 0)
	}
	bad(j, .05, true, 100)
	if s := j.Status(); s.Verdict != judge.Suspended || s.Assignment.Evidence < s.Assignment.SuspendedAt {
		t.Errorf("got %+v", s.Assignment)
	}
	if s := j.Status(); s.Peak != 1 {
		t.Errorf("a peak of %v", s.Peak)
	}
	few := newJudge(t, judge.Options{})
	for range 1000 {
		few.Assigned("", .05, false, 0)
	}
	if v := few.Verdict(); v != judge.Suspended {
		t.Errorf("none of 1,000 requests on the canary: %v", v)
	}
}

// Heavy users are seen once in the test of the assignment.
func TestHeavyUsersDoNotSuspendTheVerdict(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for i := range 100_000 {
		j.Assigned(failed(i%8, 0, false, 0).Unit, .05, i%8 < 4, 0)
	}
	if s := j.Status(); s.Verdict != judge.Inconclusive || s.Assignment.Stable+s.Assignment.Canary > 8 {
		t.Errorf("got %+v", s)
	}
}

// A verdict has a name, also one that does not exist.
func TestVerdictsHaveNames(t *testing.T) {
	for v, want := range map[judge.Verdict]string{
		judge.Inconclusive: "inconclusive", judge.Pass: "pass", judge.Amber: "amber", judge.Suspended: "suspended",
		judge.Regression: "regression", 9: "verdict 9",
	} {
		if v.String() != want {
			t.Errorf("got %q, want %q", v, want)
		}
	}
}
