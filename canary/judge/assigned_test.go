package judge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
)

// A good request without a unit does not ask for a Verdict, which takes the lock: else each request of the service does.
func TestGoodRequestsAskForNoVerdict(t *testing.T) {
	j := newJudge(t, judge.Options{})
	asked := 0
	for i := range 10_000 {
		o := judge.Outcome{Weight: .05, Canary: i%20 == 0}
		if j.Assigned("", o.Weight, o.Canary, 0) {
			asked++
		}
		if j.Observe(o) {
			asked++
		}
	}
	if asked > 1000 {
		t.Errorf("10,000 good requests asked for %d verdicts", asked)
	}
}

// A good request takes no lock: neither in Observe nor in Assigned, if the user is known.
func TestAssignmentOfAKnownUnitTakesNoLock(t *testing.T) {
	j := newJudge(t, judge.Options{})
	users := make([]string, 100)
	for i := range users {
		users[i] = fmt.Sprint("user", i)
		j.Assigned(users[i], .05, false, 0)
	}
	done := make(chan struct{})
	judge.WhileLocked(j, func() {
		go func() { // ends when the lock is free, at the latest
			defer close(done)
			for _, u := range users {
				j.Assigned(u, .05, false, 1)
			}
		}()
		select {
		case <-done:
		case <-time.After(2 * time.Second):
			t.Error("Assigned waits for the lock")
		}
	})
	<-done
}
