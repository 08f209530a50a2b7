package judge_test

import (
	"encoding/json"
	"testing"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/testutil"
)

// The evidence is the same after a handover, or the new process refuses the state: a new version of the service with other
// options does not weigh the events of the past by them, since then the options could be chosen after the events.
func TestOptionsDoNotChangeOnTheWay(t *testing.T) {
	old, next := newJudge(t, judge.Options{Tolerance: 3}), newJudge(t, judge.Options{Tolerance: 1, Alpha: .05})
	bad(old, .05, false, 60)
	bad(old, .05, true, 14)
	before := old.Status()
	if err := next.UnmarshalBinary(marshal(t, old)); err != nil {
		return
	}
	if after := next.Status(); after.Verdict != before.Verdict {
		t.Errorf("%v with an evidence of %v became %v with %v", before.Verdict, before.Evidence, after.Verdict, after.Evidence)
	}
}

// A status is JSON for all options that New accepts.
func TestStatusIsJSONForAnyAlpha(t *testing.T) {
	j, err := judge.New("a", judge.Options{Alpha: 1e-310})
	if err != nil {
		return
	}
	if _, err := json.Marshal(j.Status()); err != nil {
		t.Error(err)
	}
}

// The options of a rollout pass with the state, and the status shows them. A new salt has the options of the process.
func TestOptionsPassWithTheState(t *testing.T) {
	old, next := newJudge(t, judge.Options{Tolerance: 3, Slow: ms}), newJudge(t, judge.Options{Tolerance: 2, Slow: 2 * ms})
	testutil.HandOver(t, old, next) // before the first request
	bad(next, .05, true, 3)
	testutil.HandOver(t, next, old)
	for name, j := range map[string]*judge.Analysis{"old": old, "next": next} {
		s := j.Status()
		if s.Options.Tolerance != 3 || s.Options.Slow != ms || test(t, s, "bad").Tolerance != 3 || test(t, s, "slow").Threshold != ms {
			t.Errorf("%s: %+v", name, s.Options)
		}
	}
	if s := next.Again("b").Status(); s.Options.Tolerance != 2 || s.Options.Slow != 2*ms {
		t.Errorf("a new salt: %+v", s.Options)
	}
}

// The evidence is weighed anew when the options have changed, also if the counts are the same as before.
func TestNewOptionsWeighTheSameCounts(t *testing.T) {
	old, next := newJudge(t, judge.Options{Tolerance: 3}), newJudge(t, judge.Options{Tolerance: 1})
	o := failed(1, .05, true, 5)
	next.Observe(o)
	next.Verdict()
	o.Began = 4
	old.Observe(o)
	testutil.HandOver(t, old, next)
	if a, b := test(t, old.Status(), "bad"), test(t, next.Status(), "bad"); a.Evidence != b.Evidence || b.Tolerance != 3 {
		t.Errorf("got %+v and %+v", a, b)
	}
}
