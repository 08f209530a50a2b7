package judge_test

import (
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/cohort"
)

// A user with a broken client counts once, however often the requests of this user fail. A request without a unit counts always.
func TestEachUnitCountsOnce(t *testing.T) {
	j := newJudge(t, judge.Options{})
	if !j.Observe(failed(1, .05, true, 0)) || j.Observe(failed(1, .05, true, 1)) || j.Observe(failed(1, .25, true, 2)) {
		t.Error("a repeat has changed the evidence, or the first event has not")
	}
	once := j.Status()
	for i := range 1000 {
		j.Observe(failed(1, .05, true, time.Duration(i)))
	}
	if s := j.Status(); s.Canary.Bad != 1 || s.Evidence != once.Evidence || s.Canary.Requests != 1003 {
		t.Errorf("after repeats: %+v", s)
	}
	bad(j, .05, true, 10)
	if s := j.Status(); s.Canary.Bad != 11 {
		t.Errorf("requests without a unit: %+v", s)
	}
}

// Each kind of events has the first event of a unit of its own: a unit that was slow still counts when it fails.
func TestUnitCountsOnceInEachKind(t *testing.T) {
	j := newJudge(t, judge.Options{Slow: time.Second})
	o := judge.Outcome{Unit: "u", Weight: .05, Canary: true, Took: 2 * time.Second}
	for _, result := range []judge.Result{judge.Good, judge.Bad, judge.Panicked, judge.Good, judge.Bad, judge.Panicked} {
		o.Result = result
		j.Observe(o)
	}
	s := j.Status()
	for _, name := range []string{"bad", "panic", "slow"} {
		if r := test(t, s, name); r.Canary != 1 || r.Stable != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// The first event of a unit has the weight and the side of the request that began first, whichever is reported first.
func TestFirstEventIsTheOneThatBeganFirst(t *testing.T) {
	one, other := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	slow, fast := failed(1, .01, false, 1), failed(1, .25, true, 2)
	one.Observe(slow)
	one.Observe(fast)
	other.Observe(fast)
	if !other.Observe(slow) {
		t.Error("the earlier event has not changed the evidence")
	}
	for _, j := range []*judge.Analysis{one, other} {
		if s := j.Status(); s.Stable.Bad != 1 || s.Canary.Bad != 0 || s.Weights[0].Stable.Bad != 1 {
			t.Errorf("got %+v", s)
		}
	}
}

// The evidence has all units up to the limit. After that it stays as it is, also for the units that are known.
func TestUnitsAreBounded(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for i := range judge.MaxUnits {
		if !j.Observe(failed(i, .05, i%20 == 0, time.Duration(i))) {
			t.Fatalf("unit %d did not count", i)
		}
	}
	full := j.Status()
	if !test(t, full, "bad").Full || test(t, full, "panic").Full || full.Stable.Bad+full.Canary.Bad != judge.MaxUnits {
		t.Errorf("got %+v", full)
	}
	for i := range 1000 {
		j.Observe(failed(judge.MaxUnits+i, .05, true, 0))
		j.Observe(failed(i, .05, true, judge.MaxUnits))
	}
	if s := j.Status(); s.Evidence != full.Evidence {
		t.Errorf("the evidence went on: %v, and was %v", s.Evidence, full.Evidence)
	}
}

// The hash of a unit says nothing about the side of the unit: of the units in the sample of the assignment, as many are on the
// canary as of all units.
func TestSampleIsIndependentOfTheCohort(t *testing.T) {
	j := newJudge(t, judge.Options{})
	const n = 80_000
	for i := range n {
		key := failed(i, 0, false, 0).Unit
		j.Assigned(key, .25, cohort.In("a", key, .25), 0)
	}
	s := j.Status().Assignment
	all := float64(s.Stable + s.Canary)
	if all < n/8-500 || all > n/8+500 || float64(s.Canary)/all < .23 || float64(s.Canary)/all > .27 {
		t.Errorf("got %+v", s)
	}
}
