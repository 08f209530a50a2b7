package judge_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/testutil"
)

const ms = time.Millisecond

// The thresholds are the quantiles of the first durations of stable, and do not change any more.
func TestThresholdsAreThoseOfEarlierRequestsOfStable(t *testing.T) {
	j := newJudge(t, judge.Options{Slow: 2 * time.Second})
	if got := j.Thresholds(); !slices.Equal(got, []time.Duration{2 * time.Second}) {
		t.Errorf("before: %v", got)
	}
	took(j, true, time.Hour, 5000) // the canary has no part in the thresholds
	learn(j)
	want := []time.Duration{500 * ms, 900 * ms, 990 * ms, 2 * time.Second}
	if got := j.Thresholds(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	took(j, false, time.Hour, 5000)
	if got := j.Thresholds(); !slices.Equal(got, want) {
		t.Errorf("later: %v", got)
	}
}

// No request from which a threshold comes is an event of this threshold.
func TestRequestsBehindThresholdsAreNoEvents(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for i := range judge.Baseline {
		took(j, false, time.Duration(i+1)*ms, 1)
		took(j, true, time.Hour, 1)
	}
	if r := test(t, j.Status(), "p50"); r.Stable != 0 || r.Canary != 1 {
		t.Errorf("got %+v", r) // the one of the canary came when the threshold was known
	}
}

// A request is an event of each threshold that it exceeds, and only of these.
func TestRequestIsAnEventOfTheThresholdsThatItExceeds(t *testing.T) {
	j := newJudge(t, judge.Options{Slow: 2 * time.Second})
	learn(j)
	for _, d := range []time.Duration{ms, 500 * ms, 501 * ms, 950 * ms, time.Second, 2 * time.Second, 3 * time.Second} {
		took(j, true, d, 1)
	}
	var got []uint64
	for _, name := range []string{"p50", "p90", "p99", "slow"} {
		got = append(got, test(t, j.Status(), name).Canary)
	}
	if want := []uint64{5, 4, 3, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A request that hangs is an event before it ends, and only once for each threshold.
func TestHangingRequestIsAnEventBeforeItEnds(t *testing.T) {
	j := newJudge(t, judge.Options{Slow: 2 * time.Second})
	learn(j)
	o := judge.Outcome{Weight: .05, Canary: true}
	for _, d := range []time.Duration{600 * ms, 1500 * ms, 2500 * ms, 10 * time.Second} {
		o.Took, o.Running = d, d < 10*time.Second
		j.Observe(o)
		o.Reported = d
	}
	s := j.Status()
	for _, name := range []string{"p50", "p90", "p99", "slow"} {
		if r := test(t, s, name); r.Canary != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if s.Canary.Requests != 1 {
		t.Errorf("%d requests", s.Canary.Requests)
	}
}

// A canary that hangs is found while not one of its requests has ended.
func TestHangingCanaryIsFound(t *testing.T) {
	j := newJudge(t, judge.Options{})
	learn(j)
	for i := range 20 {
		took(j, false, 100*ms, 19)
		changed := j.Observe(judge.Outcome{Unit: fmt.Sprint(i), Weight: .05, Canary: true, Took: time.Second, Running: true})
		if changed && j.Verdict() == judge.Regression {
			t.Logf("found after %d requests of the canary", i+1)
			return
		}
	}
	t.Errorf("got %+v", j.Status())
}

// A unit counts once for each threshold, at its first slow request.
func TestUnitIsSlowOnce(t *testing.T) {
	j := newJudge(t, judge.Options{})
	learn(j)
	for i := range 100 {
		j.Observe(judge.Outcome{Unit: "u", Weight: .05, Canary: true, Took: time.Second, Began: time.Duration(i)})
	}
	if r := test(t, j.Status(), "p90"); r.Canary != 1 {
		t.Errorf("got %+v", r)
	}
}

// A request that is still running at the time of a threshold is slower than the threshold. A caller whose timer fires
// exactly then (as with a fake clock) reports a Took that is the threshold.
func TestRequestThatRunsAtAThresholdIsAnEvent(t *testing.T) {
	j := newJudge(t, judge.Options{Slow: 2 * time.Second})
	for range 20 {
		o := judge.Outcome{Weight: .05, Canary: true, Running: true}
		for _, cut := range j.Thresholds() {
			o.Took = cut
			j.Observe(o)
			o.Reported = cut
		}
	}
	if r := test(t, j.Status(), "slow"); r.Canary != 20 {
		t.Errorf("20 requests hang, and %d events are known", r.Canary)
	}
}

// What a process has learned of stable goes on in the next process.
func TestLearningGoesOnAfterAHandover(t *testing.T) {
	old, next := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	took(old, false, ms, judge.Baseline-1)
	testutil.HandOver(t, old, next)
	took(next, false, ms, 1)
	if len(next.Thresholds()) == 0 {
		t.Errorf("%d durations were learned, and no threshold is known", judge.Baseline)
	}
}

// That evidence was left out is known after the next handover too.
func TestOtherThresholdsAreKnownAfterAHandover(t *testing.T) {
	j, other, next := newJudge(t, judge.Options{}), newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	learn(j)
	took(other, false, time.Minute, judge.Baseline)
	testutil.HandOver(t, other, j)
	testutil.HandOver(t, j, next)
	if !j.Status().OtherThresholds || !next.Status().OtherThresholds {
		t.Errorf("before %v, after %v", j.Status().OtherThresholds, next.Status().OtherThresholds)
	}
}

// A canary that repairs errors is no regression: stable fails fast in 60 % of its requests, and the canary answers all of
// them, as fast as stable answers the others.
func TestCanaryThatRepairsErrorsIsNoRegression(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for i := range 20_000 {
		o := judge.Outcome{Weight: .05, Canary: i%20 == 0, Took: 100*ms + time.Duration(i%997)*10}
		if !o.Canary && i%5 < 3 {
			o.Result, o.Took = judge.Bad, ms
		}
		if j.Observe(o) && j.Verdict() == judge.Regression {
			t.Fatalf("after %d requests, %v: p50 %+v", i, j.Verdict(), test(t, j.Status(), "p50"))
		}
	}
}

// Where stable needs microseconds, no threshold is less than Fast, and with a negative Fast the quantiles are the thresholds.
func TestThresholdsAreNotLessThanFast(t *testing.T) {
	for fast, want := range map[time.Duration]time.Duration{0: 5 * ms, 2 * ms: 2 * ms, -1: 20 * time.Microsecond} {
		j := newJudge(t, judge.Options{Fast: fast})
		took(j, false, 20*time.Microsecond, judge.Baseline)
		if got := j.Thresholds(); len(got) != 3 || got[0] != want || got[2] != want {
			t.Errorf("with %v the thresholds are %v, want %v", fast, got, want)
		}
	}
}
