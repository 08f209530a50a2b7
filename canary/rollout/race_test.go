package rollout_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/internal/testutil"
)

// start lets a rollout run, and returns when the canary has a weight.
func start(t testing.TB, ro *rollout.Rollout) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		_ = ro.Run(ctx)
	}()
	testutil.Until(t, 10*time.Second, "a weight of the canary", func() bool { return ro.Weight() > 0 })
	return func() {
		cancel()
		<-done
	}
}

// sent is an outcome that a router would pass to the rollout.
func sent(side canary.Side, weight float64, status int) canary.Outcome {
	return canary.Outcome{Request: request, Side: side, Weight: weight, Status: status, Start: time.Now(), Duration: time.Millisecond}
}

var request, _ = http.NewRequest("GET", "/", nil)

// While steps end as fast as they can, plans change, and an operator pauses and resumes, many requests fail at once. From the moment at
// which the first Observe finds the regression, the weight is 0 and stays 0, in each goroutine, and the switch is latched when the
// request that finds the regression goes on.
func TestNoStepRaisesTheWeightOfACanaryThatIsWorse(t *testing.T) {
	for range 20 {
		var steps rollout.Steps
		for i := range 900 {
			steps = append(steps, rollout.Step{Weight: float64(i+1) / 1000})
		}
		c := &changing{steps: steps}
		kill := canary.NewKillSwitch("cart", canary.KillSwitchOptions{Logger: quiet})
		ro, err := rollout.New(rollout.Options{Plan: c.get, Logger: quiet, Kill: kill})
		if err != nil {
			t.Fatal(err)
		}
		stop := start(t, ro)
		var worse, ended atomic.Bool
		var workers sync.WaitGroup
		check := func(who string) {
			if worse.Load() && ro.Weight() != 0 {
				t.Errorf("%s: the weight is %v after the regression was found", who, ro.Weight())
			}
		}
		for range 3 {
			workers.Go(func() { // ends with the rollback
				for !ended.Load() {
					_, _ = ro.Pause("x"), ro.Resume("x")
					check("an operator")
				}
			})
		}
		workers.Go(func() { // ends with the rollback
			for !ended.Load() {
				c.mu.Lock()
				c.steps = append(rollout.Steps(nil), steps[len(steps)/2:]...)
				c.mu.Unlock()
				_ = ro.Status()
				check("an editor")
			}
		})
		workers.Go(func() { // ends with the rollback
			for !ended.Load() {
				check("a reader")
			}
		})
		testutil.Until(t, 10*time.Second, "many changes", func() bool { return len(ro.Status().Decisions) >= 50 })
		for range 4 {
			workers.Go(func() { // ends with the rollback
				for !ended.Load() {
					ro.Observe(sent(canary.Canary, .01, http.StatusInternalServerError))
					if ro.Weight() == 0 {
						worse.Store(true)
					}
					check("a request")
				}
			})
		}
		testutil.Until(t, 10*time.Second, "the rollback", worse.Load)
		time.Sleep(2 * time.Millisecond) // more time for faults
		if state := ro.Status().State; state != rollout.RolledBack || kill.Status().State != "latched" {
			t.Errorf("the rollout is %v, and the switch is %s", state, kill.Status().State)
		}
		ended.Store(true)
		workers.Wait()
		stop()
		check("at the end")
	}
}

// All methods may be called at once, by all goroutines.
func TestAllMethodsAtOnce(t *testing.T) {
	ro, err := rollout.New(rollout.Options{Steps: rollout.Steps{{Weight: .3, For: time.Hour}}, Logger: quiet, Worse: rollout.Hold, Panics: -1,
		Broadcast: func(string, []byte) error { return nil }, SetWeight: func(float64) error { return nil },
		Opinion: func(context.Context, rollout.Status) rollout.Opinion { return rollout.Opinion{} }, AskEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, ro)
	defer stop()
	const rounds = 200
	var n atomic.Uint64
	var workers sync.WaitGroup
	for _, do := range []func(i int){
		func(i int) {
			o := sent(canary.Side(i%2), .3, 200+300*(i%2)*(i/2%2))
			o.Begun = ro.Begin(o)
			ro.Observe(o)
			n.Add(1)
		},
		func(int) { _ = ro.Pause("") }, func(int) { _ = ro.Resume("") }, func(int) { _ = ro.Status() }, func(int) { _ = ro.Weight() },
		func(int) { _ = ro.UnmarshalBinary(marshal(t, ro)) }, func(int) { _ = ro.Ingest(marshal(t, ro)) },
		func(i int) {
			if i%50 == 0 {
				_ = ro.Abort("")
			}
		},
	} {
		for range 2 {
			workers.Go(func() { // ends after its rounds
				for i := range rounds {
					do(i)
				}
			})
		}
	}
	workers.Wait()
	if s := ro.Status().Judge; s.Stable.Requests+s.Canary.Requests != n.Load() {
		t.Errorf("%d requests have counted, want %d", s.Stable.Requests+s.Canary.Requests, n.Load())
	}
}
