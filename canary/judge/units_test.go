package judge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/cohort"
	"github.com/midair-go/midair/internal/testutil"
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

// The evidence has all units up to the limit. After that half of the new units count, and those that have counted stay.
func TestUnitsAreBounded(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for i := range judge.MaxUnits {
		if !j.Observe(failed(i, .05, i%20 == 0, time.Duration(i))) {
			t.Fatalf("unit %d did not count", i)
		}
	}
	for i := range judge.MaxUnits {
		j.Observe(failed(judge.MaxUnits+i, .05, false, time.Hour))
	}
	s := j.Status()
	if r := test(t, s, "bad"); r.Halved < 1 || r.Halved > 2 || s.Canary.Bad != (judge.MaxUnits+19)/20 {
		t.Errorf("got %+v", r)
	}
	if all := float64(s.Stable.Bad+s.Canary.Bad) / judge.MaxUnits; all < 1.4 || all > 1.6 || test(t, s, "panic").Halved != 0 {
		t.Errorf("%.3f times as many units as have room", all)
	}
	for i := range 2 * judge.MaxUnits {
		if j.Observe(failed(i, .05, true, 2*time.Hour)) && i < judge.MaxUnits {
			t.Fatalf("unit %d counted twice", i)
		}
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

// A canary that gets worse later is found, also if more than MaxUnits users have failed before, on both sides alike. Here
// all users are slow once in the first step, and at 25 % each user of the canary fails.
func TestCanaryThatGetsWorseIsFoundAfterManyUnits(t *testing.T) {
	j := newJudge(t, judge.Options{})
	for i := range judge.MaxUnits + 1000 { // at 1 %, about as many failures as at any time
		o := failed(i, .01, i%100 == 0, time.Duration(i))
		j.Observe(o)
	}
	for i := range 20_000 { // at 25 %, only the canary fails
		o := failed(1_000_000+i, .25, i%4 == 0, time.Hour+time.Duration(i))
		if !o.Canary {
			o.Result = judge.Good
		}
		if j.Observe(o) && j.Verdict() == judge.Regression {
			return
		}
	}
	s := j.Status()
	t.Errorf("5,000 users of the canary failed, and none of stable: %v with an evidence of %v, bad %+v",
		s.Verdict, s.Evidence, test(t, s, "bad"))
}

// A handover keeps the evidence to the last bit, also if there are more failed units than MaxUnits: here the new process has
// had failures of its own before the commit.
func TestHandoverIsExactWithManyUnits(t *testing.T) {
	old, candidate := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for i := range judge.MaxUnits - 10 {
		old.Observe(failed(i, .05, i%20 == 0, time.Duration(i)))
	}
	for i := range 3000 {
		candidate.Observe(failed(1_000_000+i, .05, i%20 == 0, time.Hour+time.Duration(i)))
	}
	for range 20 { // both send deltas
		ingest(t, old, candidate.Delta())
		ingest(t, candidate, old.Delta())
	}
	old.Verdict()
	testutil.HandOver(t, old, candidate) // the commit
	same(t, "old and new process", old, candidate)
}

// Two processes that exchange their units have the same units, also if two requests of a unit began at the same time, as with a
// clock that counts milliseconds.
func TestUnitsThatFailAtTheSameTimeJoinInAnyOrder(t *testing.T) {
	for unit := range 10 { // the processes have random names
		for _, weight := range []float64{.01, .25} {
			one, other := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
			one.Observe(failed(unit, .25, false, 5))
			other.Observe(failed(unit, weight, true, 5))
			a, b := marshal(t, one), marshal(t, other)
			if one.UnmarshalBinary(b) != nil || other.UnmarshalBinary(a) != nil {
				t.Fatal("a state was refused")
			}
			same(t, "one and other", one, other)
			if s := one.Status(); (s.Stable.Bad == 1) != (weight == .25) {
				t.Errorf("at the same weight, stable is first, else the lower weight: %+v and %+v", s.Stable, s.Canary)
			}
		}
	}
}

// A first event that was replaced leaves nothing behind, so the states of two processes show the same.
func TestReplacedEventLeavesNothing(t *testing.T) {
	j, next := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for i := range 20 { // some of these are in the sample
		j.Assigned(fmt.Sprint(i), .25, true, 5)
		j.Assigned(fmt.Sprint(i), .01, false, 1)
	}
	testutil.HandOver(t, j, next)
	same(t, "after a handover", j, next)
}

// A unit that has left the set of one process counts once in each process that takes over the evidence, in any order.
func TestFrozenUnitsCountOnceInEachProcess(t *testing.T) {
	old, candidate := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for i := range judge.MaxUnits - 10 {
		old.Observe(failed(i, .05, i%20 == 0, time.Duration(i)))
	}
	before := old.Status()
	testutil.HandOver(t, old, candidate)
	for i := range 20 { // now the candidate is over the limit
		candidate.Observe(failed(1_000_000+i, .05, true, time.Hour))
	}
	testutil.HandOver(t, candidate, old)
	same(t, "after an abort", candidate, old)
	testutil.HandOver(t, old, candidate)
	testutil.HandOver(t, candidate, old)
	s := old.Status()
	if test(t, s, "bad").Halved != 1 || s.Stable.Bad != before.Stable.Bad || s.Canary.Bad < before.Canary.Bad+10 ||
		s.Canary.Bad > before.Canary.Bad+20 {
		t.Errorf("before: %+v and %+v, after: %+v and %+v", before.Stable, before.Canary, s.Stable, s.Canary)
	}
}

// The same event of a unit may come to two processes, as when both report a request: they agree on which has seen it.
func TestSameEventInTwoProcessesJoinsInAnyOrder(t *testing.T) {
	for range 10 { // the processes have random names
		one, other := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
		one.Observe(failed(1, .25, true, 5))
		other.Observe(failed(1, .25, true, 5))
		a, b := marshal(t, one), marshal(t, other)
		if one.UnmarshalBinary(b) != nil || other.UnmarshalBinary(a) != nil {
			t.Fatal("a state was refused")
		}
		same(t, "one and other", one, other)
	}
}
