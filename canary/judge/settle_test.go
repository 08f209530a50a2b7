package judge_test

import (
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/cohort"
	"github.com/midair-go/midair/internal/testutil"
)

// Events count when both sides have had the same time, in the order in which their requests began. Of a unit, one event waits.
func TestEventsWaitUntilTheyAreSettled(t *testing.T) {
	j := newJudge(t, judge.Options{Settle: 30 * time.Second})
	fast, slow := failed(1, .25, true, 2*time.Second), failed(1, .01, false, time.Second)
	fast.Took, slow.Took = time.Second, 29*time.Second
	if j.Observe(fast) || j.Observe(slow) || j.Settle(30*time.Second) {
		t.Error("an event counted before it was settled")
	}
	if s := j.Status(); s.Waiting != 1 || s.Canary.Bad+s.Stable.Bad != 0 {
		t.Errorf("before: %+v", s)
	}
	if !j.Settle(31 * time.Second) {
		t.Error("an event that is settled did not count")
	}
	if s := j.Status(); s.Waiting != 0 || s.Stable.Bad != 1 || s.Canary.Bad != 0 {
		t.Errorf("after 31 s: %+v", s)
	}
	j.Settle(time.Hour)
	if s := j.Status(); s.Waiting != 0 || s.Stable.Bad != 1 || s.Canary.Bad != 0 || s.Late != 0 {
		t.Errorf("at the end: %+v", s)
	}
}

// A Settle that is too short is visible.
func TestRequestsThatTakeLongerThanSettleAreCounted(t *testing.T) {
	j := newJudge(t, judge.Options{Settle: time.Second})
	j.Observe(judge.Outcome{Weight: .05, Result: judge.Bad, Took: 2 * time.Second})
	if s := j.Status(); s.Late != 1 {
		t.Errorf("got %+v", s)
	}
}

// If too many events wait, a random part of the units and requests goes on to count, of both sides alike.
func TestWaitingEventsAreBounded(t *testing.T) {
	j := newJudge(t, judge.Options{Settle: time.Second})
	const n = 4 * judge.MaxPending
	for i := range n {
		j.Observe(failed(i, .5, i%2 == 0, 0))
		bad(j, .5, i%2 == 0, 1)
	}
	s := j.Status()
	if s.Waiting >= judge.MaxPending || s.Halved < 3 || s.Halved > 5 {
		t.Fatalf("got %+v", s)
	}
	want := float64(n) / float64(int(1)<<s.Halved) // of units, and as many of requests
	j.Settle(time.Hour)
	s = j.Status()
	for _, got := range []uint64{s.Stable.Bad, s.Canary.Bad} {
		if float64(got) < .85*want || float64(got) > 1.15*want {
			t.Errorf("%d of each side are left, and not about %v", got, want)
		}
	}
}

// Which units go on to count does not depend on the side that the cohort gives to them.
func TestUnitsThatGoOnToCountAreOfBothSides(t *testing.T) {
	j := newJudge(t, judge.Options{Settle: time.Second})
	for i := range 4 * judge.MaxPending {
		o := failed(i, .5, false, 0)
		o.Canary = cohort.In("a", o.Unit, .5)
		j.Observe(o)
	}
	j.Settle(time.Hour)
	s := j.Status()
	if share := float64(s.Canary.Bad) / float64(s.Stable.Bad+s.Canary.Bad); s.Halved == 0 || share < .45 || share > .55 {
		t.Errorf("%d units of stable and %d of the canary are left", s.Stable.Bad, s.Canary.Bad)
	}
}

// A broken client does not take the evidence of all others away: it counts once, and so it waits once.
func TestOneUnitDoesNotFillTheWaitingEvents(t *testing.T) {
	j := newJudge(t, judge.Options{Settle: 30 * time.Second})
	for i := range 2 * judge.MaxPending {
		j.Observe(failed(1, .05, false, time.Duration(i)))
	}
	if s := j.Status(); s.Halved != 0 {
		t.Errorf("one unit has halved the units that are counted %d times", s.Halved)
	}
}

// Events that wait pass with the state of a process that ends: here the state is the last one of the old process, one second
// after the events and before they are settled.
func TestWaitingEventsPassWithTheLastState(t *testing.T) {
	opts := judge.Options{Settle: 30 * time.Second}
	old, next := newJudge(t, opts), newJudge(t, opts)
	for i := range 20 {
		old.Observe(failed(i, .05, true, time.Duration(i)))
	}
	old.Settle(time.Second)
	testutil.HandOver(t, old, next)
	next.Settle(time.Hour)
	if s := next.Status(); s.Canary.Bad != 20 {
		t.Errorf("20 units failed, and the next process knows %d", s.Canary.Bad)
	}
}

// The event of a request that began before the last time of Settle counts at once, and Late has it if it took too long.
func TestEventOfASettledTimeCountsAtOnce(t *testing.T) {
	j := newJudge(t, judge.Options{Settle: time.Second})
	j.Settle(time.Minute)
	o := failed(1, .05, true, 0)
	o.Took = time.Minute
	if s := j.Status(); !j.Observe(o) || j.Status().Canary.Bad != 1 || j.Status().Late != 1 || s.Late != 0 {
		t.Errorf("got %+v", j.Status())
	}
}
