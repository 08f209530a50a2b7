package judge_test

import (
	"math"
	"testing"
	"time"

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
	k := newJudge(t, judge.Options{Slow: time.Second})
	k.Observe(judge.Outcome{Weight: .05, Canary: true, Result: judge.Panicked})
	k.Observe(judge.Outcome{Weight: .05, Canary: true, Result: judge.Panicked})
	s := k.Status()
	one, two, three := test(t, s, "bad").Evidence, test(t, s, "panic").Evidence, test(t, s, "slow").Evidence
	if want := .4*one + .2*two + .1*three + .3; one != two || three <= one || !near(s.Evidence, want) {
		t.Errorf("evidence of %v, %v and %v is %v together, want %v", one, two, three, s.Evidence, want)
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

// passing returns an Analysis whose verdict is Pass.
func passing(t *testing.T, settle time.Duration) *judge.Analysis {
	j := newJudge(t, judge.Options{Settle: settle})
	bad(j, .25, true, 20)
	bad(j, .25, false, 100)
	j.Settle(time.Hour)
	return j
}

// A canary that is no worse passes, but not without Settle, not while anything is left out, and never if requests have units.
func TestPassNeedsAllRequestsOfBothSides(t *testing.T) {
	if v := passing(t, time.Second).Verdict(); v != judge.Pass {
		t.Fatalf("got %v", v)
	}
	one, both, unit := passing(t, time.Second), passing(t, time.Second), passing(t, time.Second)
	one.LeaveOut(true)
	both.LeaveOut(true)
	both.LeaveOut(false)
	unit.Observe(judge.Outcome{Unit: "u", Weight: .25})
	for name, j := range map[string]*judge.Analysis{
		"left out of one side": one, "left out of both sides": both, "a unit": unit, "no Settle": passing(t, 0),
	} {
		if s := j.Status(); s.Verdict != judge.Inconclusive || s.NoPass == "" || s.Pass < s.PassAt {
			t.Errorf("%s: %v, no pass because %q", name, s.Verdict, s.NoPass)
		}
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

// A Pass is wrong with a probability of 5 % at every weight. The weights here are no multiples
// of 0.01 %.
func TestPassIsRightAtWeightsBetweenTheSteps(t *testing.T) {
	for _, weight := range []float64{.00011, .00021} {
		j := newJudge(t, judge.Options{})
		const stable = 1_000_000
		twice := 2.0 * weight / (1 - weight) * stable // the expected events of a canary that is twice as bad
		bad(j, weight, false, stable)
		bad(j, weight, true, int(math.Ceil(twice)))
		if s := j.Status(); s.Pass >= s.PassAt {
			t.Errorf("weight %v: a canary that is twice as bad passes: pass evidence %v, risk %+v", weight, s.Pass, s.Risk)
		}
	}
}

// A right assignment is not suspended at a weight between the steps. Here each side gets the requests of the weight, to the
// last one, and all requests of both sides are bad.
func TestRightAssignmentAtWeightsBetweenTheStepsIsNotSuspended(t *testing.T) {
	const weight, n = .00011, 1_000_000
	j := newJudge(t, judge.Options{})
	for i := range n {
		canary := i%9091 == 9090
		j.Assigned("", weight, canary, 0)
	}
	if s := j.Status(); s.Verdict == judge.Suspended {
		t.Errorf("%d of %d on the canary at a weight of %v: %+v", s.Assignment.Canary, n, weight, s.Assignment)
	}
	bad(j, weight, true, 110)
	bad(j, weight, false, n-110)
	if r := j.Status().Risk; r.Upper > 0 && r.Upper < .99 {
		t.Errorf("the relative risk is 1, and the interval ends before: %+v", r)
	}
}

// A canary from which nothing has come back does not pass. Stable has 60 bad outcomes; of the canary 2,000 requests were
// assigned, and not one has ended.
func TestHangingCanaryDoesNotPass(t *testing.T) {
	j := newJudge(t, judge.Options{Settle: time.Second})
	for i := range 8000 {
		o := judge.Outcome{Weight: .25, Canary: i%4 == 0}
		j.Assigned("", o.Weight, o.Canary, 0)
		if !o.Canary {
			if i%100 == 1 {
				o.Result = judge.Bad
			}
			j.Observe(o)
		}
	}
	j.Settle(time.Hour)
	if s := j.Status(); s.Verdict == judge.Pass || s.Pass < s.PassAt {
		t.Errorf("a Pass with %d requests of the canary: evidence %v", s.Canary.Requests, s.Pass)
	}
}
