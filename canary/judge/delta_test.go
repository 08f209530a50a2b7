package judge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/cohort"
	"github.com/midair-go/midair/internal/testutil"
)

// In a rollout of processes the old process is stable and judges, and the new process is the canary. Both send deltas. The new
// process has no requests of stable, so it has the thresholds from the deltas of the old one.
func TestSlowCanaryProcessIsFound(t *testing.T) {
	old, candidate := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	testutil.HandOver(t, old, candidate) // the hello, at which the rollout begins
	learn(old)
	for i := range 2000 {
		took(old, false, 100*ms, 19)
		candidate.Observe(judge.Outcome{Weight: .05, Canary: true, Took: time.Hour})
		if i%100 == 99 {
			ingest(t, old, candidate.Delta())
			ingest(t, candidate, old.Delta())
			if old.Verdict() == judge.Regression {
				return
			}
		}
	}
	t.Errorf("2,000 requests of the canary took an hour each: %+v", old.Status().Tests)
}

// The failures of the canary reach the judge with the next delta, also if many users were assigned before.
func TestFailuresDoNotWaitBehindAssignments(t *testing.T) {
	judging, candidate := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for i := range 80_000 {
		candidate.Assigned(fmt.Sprint("user", i), .05, cohort.In("a", fmt.Sprint("user", i), .05), time.Duration(i))
	}
	for i := range 50 {
		candidate.Observe(failed(i, .05, true, time.Hour))
	}
	for n := 1; n <= 100; n++ {
		ingest(t, judging, candidate.Delta())
		if judging.Verdict() == judge.Regression {
			if n > 2 {
				t.Errorf("50 failures of the canary were known after %d deltas", n)
			}
			return
		}
	}
	t.Error("the failures never came")
}

// A lost delta comes again soon, also after many units: not after minutes.
func TestLostDeltaComesAgainSoon(t *testing.T) {
	judging, candidate := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for i := range 10_000 {
		candidate.Observe(failed(i, .05, i%20 == 0, time.Duration(i)))
	}
	for range 40 {
		ingest(t, judging, candidate.Delta())
	}
	for i := range 200 {
		candidate.Observe(failed(1_000_000+i, .05, true, time.Hour))
	}
	candidate.Delta() // is lost
	want := candidate.Status().Canary.Bad
	n := 0
	for n < 300 && judging.Status().Canary.Bad < want {
		ingest(t, judging, candidate.Delta())
		n++
	}
	if n > 10 {
		t.Errorf("the failures of a lost delta were known %d deltas later", n)
	}
}

// The failures of requests without a unit reach the judge with the next delta, also if there are counters at many weights that
// do not change any more. Those of lost deltas come later.
func TestFailuresDoNotWaitBehindOldWeights(t *testing.T) {
	judging, candidate := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for i := range 60 {
		bad(candidate, float64(i+1)/100, true, 1)
	}
	for range 4 {
		candidate.Delta() // is lost
	}
	for i := range 60 {
		bad(candidate, .61, true, 100)
		ingest(t, judging, candidate.Delta())
		if n := judging.Status().Canary.Bad; n < uint64(100*(i+1)) {
			t.Fatalf("delta %d: the judge knows %d failures", i, n)
		}
	}
	equalCounts(t, "60 deltas", judging, candidate)
}
