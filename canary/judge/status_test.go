package judge_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/cohort"
)

// The estimate is the relative risk of the counts, and the interval contains it. Where a side has no events, an end is open.
func TestRiskIsThatOfTheCounts(t *testing.T) {
	r := judge.RiskOf(.01, judge.Labels(.05, 100, 950))
	if math.Abs(r.Estimate-2) > 1e-6 || r.Lower < 1.2 || r.Lower >= 2 || r.Upper <= 2 || r.Upper > 3.5 {
		t.Errorf("got %+v", r)
	}
	if r := judge.RiskOf(.01, judge.Labels(.05, 100, 950), judge.Labels(.5, 2000, 1000)); math.Abs(r.Estimate-2) > 1e-6 {
		t.Errorf("two weights: %+v", r)
	}
	for _, row := range []struct {
		canary, stable float64
		lower, upper   bool
	}{{0, 0, false, false}, {5, 0, true, false}, {0, 50, false, true}} {
		r := judge.RiskOf(.01, judge.Labels(.05, row.canary, row.stable))
		if r.Estimate != 0 || (r.Lower > 0) != row.lower || (r.Upper > 0) != row.upper {
			t.Errorf("%+v: got %+v", row, r)
		}
	}
}

// The interval has the true relative risk, at all times together: 300 runs with a look after each event.
func TestIntervalHasTheTrueRisk(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, risk := range []float64{.5, 1, 3} {
		missed := 0
		for range 300 {
			if misses(rng, risk, .05) {
				missed++
			}
		}
		if missed > accepted(300, .05) {
			t.Errorf("a risk of %v was outside of the interval in %d of 300 runs", risk, missed)
		}
	}
}

func misses(rng *rand.Rand, risk, alpha float64) bool {
	canary, stable := 0.0, 0.0
	for range 300 {
		if rng.Float64() < .05*risk/(.05*risk+.95) {
			canary++
		} else {
			stable++
		}
		at := judge.Labels(.05, canary, stable)
		if need := math.Log(2 / alpha); judge.LogE(risk, judge.Rises, at) >= need || judge.LogE(risk, judge.Falls, at) >= need {
			return true
		}
	}
	return false
}

// With as many events on the canary as are detectable, the test alone is a regression, and with fewer it is not.
func TestDetectableIsWhatWouldHaveBeenDetected(t *testing.T) {
	j := newJudge(t, judge.Options{})
	took(j, true, 1, 1000)
	took(j, false, 1, 18_981)
	bad(j, .05, false, 19)
	r := test(t, j.Status(), "bad")
	events := r.DetectableRate * 1000
	if math.Abs(r.DetectableRisk-r.DetectableRate/.001) > 1e-9 || events < 2 || events > 30 {
		t.Fatalf("got %+v", r)
	}
	few, enough := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for _, k := range []*judge.Analysis{few, enough} {
		bad(k, .05, false, 19)
	}
	bad(few, .05, true, int(events))
	bad(enough, .05, true, int(events)+1)
	if a, b := test(t, few.Status(), "bad"), test(t, enough.Status(), "bad"); a.Evidence >= 250 || b.Evidence < 250 {
		t.Errorf("%v events are detectable, and the evidence is %v and %v", events, a.Evidence, b.Evidence)
	}
	if r := test(t, newJudge(t, judge.Options{}).Status(), "bad"); r.DetectableRate != 0 || r.DetectableRisk != 0 {
		t.Errorf("without requests: %+v", r)
	}
}

// A program that gets a status as JSON reads the verdict back, and a text that names none is refused.
func TestVerdictIsReadBackFromItsText(t *testing.T) {
	for v := judge.Inconclusive; v <= judge.Regression; v++ {
		text, err := json.Marshal(judge.Status{Verdict: v})
		var s judge.Status
		if err != nil || json.Unmarshal(text, &s) != nil || s.Verdict != v {
			t.Errorf("%v is read back as %v", v, s.Verdict)
		}
	}
	got := judge.Amber
	if err := got.UnmarshalText([]byte("green")); err == nil || !strings.Contains(err.Error(), `"green"`) || got != judge.Amber {
		t.Errorf("got %v, %v", got, err)
	}
}

// The status is JSON for any counts: an evidence that a float cannot hold is shown as the greatest number.
func TestStatusIsJSON(t *testing.T) {
	j := newJudge(t, judge.Options{})
	learn(j)
	for _, canary := range []bool{true, false} {
		for range 3 {
			text, err := json.Marshal(j.Status())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), `"verdict":"`) || !strings.Contains(string(text), `"evidence":`) {
				t.Errorf("got %s", text)
			}
			bad(j, .05, canary, 1000)
		}
	}
	k := newJudge(t, judge.Options{})
	bad(k, .0001, true, 1000)
	if s := k.Status(); s.Evidence != math.MaxFloat64 {
		t.Errorf("got %v", s.Evidence)
	}
}

// The interval of Status has the true relative risk also if requests have units. Each request of the canary fails twice as
// often as one of stable. After a while all units have failed once, and the counts are those of the weight.
func TestIntervalHasTheTrueRiskWithUnits(t *testing.T) {
	j := newJudge(t, judge.Options{})
	began := time.Duration(0)
	failed := [2]map[int]bool{{}, {}}
	for round := range 400 {
		for unit := range 2000 {
			canary := cohort.In("a", fmt.Sprint("unit", unit), .25)
			every := 100 // of stable, each hundredth request of a unit fails
			if canary {
				every = 50
			}
			o := judge.Outcome{Unit: fmt.Sprint("unit", unit), Weight: .25, Canary: canary, Began: began}
			if (round+unit)%every == 0 {
				o.Result = judge.Bad
				failed[map[bool]int{true: 1}[canary]][unit] = true
			}
			began++
			j.Observe(o)
		}
	}
	if r := j.Status().Risk; r.Upper > 0 && r.Upper < 2 {
		t.Errorf("requests of the canary fail twice as often, and the interval is %+v", r)
	}
}

// With units, a Lower below 1 would be wrong: a canary that is better has more units left that can still fail.
func TestLowerEndWithUnitsIsAtLeastOne(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for i := range 4000 {
		j.Observe(failed(i, .25, i%4 == 0, time.Duration(i)))
	}
	if r := j.Status().Risk; r != (judge.Risk{}) {
		t.Errorf("got %+v", r)
	}
	j = newJudge(t, judge.Options{})
	for i := range 100 {
		j.Observe(failed(i, .01, true, time.Duration(i)))
	}
	if r := j.Status().Risk; r.Lower < 1 || r.Estimate != 0 || r.Upper != 0 {
		t.Errorf("got %+v", r)
	}
}

// A status is a line that an operator can read, with all that has decided.
func TestStatusIsALineOfALog(t *testing.T) {
	j := newJudge(t, judge.Options{})
	bad(j, .05, true, 41)
	took(j, true, 1, 771)
	bad(j, .05, false, 12)
	took(j, false, 1, 15_388)
	j.Observe(judge.Outcome{Weight: .01})
	for name, row := range map[string]struct {
		j    *judge.Analysis
		want string
	}{
		"regression": {j, "regression: evidence 7.033e+35 (needs 100), risk 64.9 (21.2 to 267), canary 41 bad of 812, " +
			"stable 12 bad of 15401, rate 5.05 % (2.42 to 8.75 %), weights of 1 to 5 %"},
		"nothing": {newJudge(t, judge.Options{}), "inconclusive: evidence 1 (needs 100), risk ? (0 to ?), canary 0 bad of 0, " +
			"stable 0 bad of 0, rate 0 % (0 to 100 %), no weights"},
	} {
		if got := row.j.Status().String(); got != row.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, row.want)
		}
	}
}
