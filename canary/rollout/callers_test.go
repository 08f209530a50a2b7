package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
)

// The canary gets no weight before Ready has returned nil, also after errors and a panic, and nobody can promote the canary before.
func TestCanaryGetsNoWeightBeforeItIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		log := &lines{}
		s := newSite(t, rollout.Options{Logger: log.logger(), Ready: func(context.Context) error {
			switch n := calls.Add(1); n {
			case 1, 2:
				return errors.New("cold")
			case 3:
				panic("very cold")
			}
			return nil
		}})
		s.want(rollout.Waiting, 0, 0)
		refuse := func(when string) {
			if err := s.ro.Promote(when); err != rollout.ErrNotReady {
				t.Errorf("Promote %s = %v", when, err)
			}
			if w := s.ro.Weight(); w != 0 {
				t.Errorf("%s: the weight is %v", when, w)
			}
		}
		refuse("while waiting")
		_ = s.ro.Pause("wait")
		s.want(rollout.Paused, 0, 0)
		refuse("while paused")
		_ = s.ro.Resume("go on")
		s.want(rollout.Waiting, 0, 0)
		time.Sleep(2900 * time.Millisecond)
		s.want(rollout.Waiting, 0, 0)
		_ = s.ro.Abort("no")
		refuse("while aborted")
		_ = s.ro.Resume("yes")
		time.Sleep(time.Second)
		s.want(rollout.Ramping, 1, .05)
		if n := log.count("the canary is not ready"); calls.Load() != 4 || n != 3 {
			t.Errorf("%d calls and %d lines, want 4 and 3", calls.Load(), n)
		}
	})
}

// A Ready that blocks until Run ends holds up neither the end of Run nor an abort.
func TestReadyMayBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Ready: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
		time.Sleep(10 * time.Minute)
		s.want(rollout.Waiting, 0, 0)
		_ = s.ro.Abort("no")
		s.want(rollout.Aborted, 0, 0)
		s.stop()
	})
}

// failsAll lets the canary fail, and sends requests until the weight is 0.
func failsAll(s *site) {
	s.t.Helper()
	s.bad[canary.Canary] = each(1)
	for range 10_000 {
		if s.ask(); s.ro.Weight() == 0 {
			return
		}
	}
	s.t.Fatal("there was no rollback")
}

// SetWeight is called again each second after an error and after a panic, and the step lasts its whole time then. While SetWeight
// blocks, the step does not end, and a rollback has its weight in force at once.
func TestSetWeightMayFailAndBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []float64
		hold := make(chan struct{})
		s := newSite(t, rollout.Options{Logger: quiet, SetWeight: func(w float64) error {
			mu.Lock()
			got = append(got, w)
			n := len(got)
			mu.Unlock()
			switch n {
			case 1:
				return errors.New("no proxy")
			case 2:
				panic("no proxy")
			case 4:
				<-hold
			}
			return nil
		}})
		s.want(rollout.Ramping, 1, .05)
		if text := s.ro.Status().SetWeight; text != "no proxy" {
			t.Errorf("the error is %q", text)
		}
		time.Sleep(1500 * time.Millisecond)
		if text := s.ro.Status().SetWeight; !strings.Contains(text, "panic") {
			t.Errorf("the error is %q", text)
		}
		time.Sleep(time.Second)
		if text := s.ro.Status().SetWeight; text != "" {
			t.Errorf("the error is %q", text)
		}
		s.load(60*time.Second, 10)
		s.want(rollout.Ramping, 2, .25) // the fourth call blocks
		s.load(10*time.Minute, 10)
		s.want(rollout.Ramping, 2, .25)
		failsAll(s)
		s.want(rollout.RolledBack, 2, 0)
		close(hold)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if text := fmt.Sprint(got); text != "[0.05 0.05 0.05 0.25 0]" {
			t.Errorf("SetWeight got %s", text)
		}
	})
}

// A rollout whose SetWeight fails does not go on to further steps, which no request of the canary would have preceded.
func TestNoStepEndsWhileSetWeightFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		s := newSite(t, rollout.Options{Logger: quiet, SetWeight: func(float64) error {
			if !works.Load() {
				return errors.New("no proxy")
			}
			return nil
		}})
		time.Sleep(10 * time.Minute)
		s.want(rollout.Ramping, 1, .05)
		if waits := s.ro.Status().Waits; waits != "SetWeight has not set the weight 0.05" {
			t.Errorf("the step waits for %q", waits)
		}
		works.Store(true)
		time.Sleep(59 * time.Second)
		s.want(rollout.Ramping, 1, .05)
		time.Sleep(3 * time.Second)
		s.want(rollout.Ramping, 2, .25)
	})
}

// Decided has 5 s when Run is about to end, also for a call that began before.
func TestDecidedHasTimeWhenRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lasted time.Duration
		ended := time.Now() // of the bubble, in which no time passes until Run ends
		s := newSite(t, rollout.Options{Decided: func(ctx context.Context, _ rollout.Decision) {
			<-ctx.Done()
			lasted = time.Since(ended)
		}})
		synctest.Wait() // Decided was called
		s.stop()
		if lasted != 5*time.Second {
			t.Errorf("the context of Decided has ended %v after that of Run", lasted)
		}
	})
}

// Decided that blocks or panics delays only its next call: the log has the rollback, and the latch reaches the other processes.
func TestDecidedThatBlocksDelaysNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int32
		kill := canary.NewKillSwitch("cart", canary.KillSwitchOptions{Logger: quiet, Broadcast: func(string, []byte) error { sent.Add(1); return nil }})
		log := &lines{}
		var mu sync.Mutex
		var told []rollout.State
		hold := make(chan struct{})
		s := newSite(t, rollout.Options{Logger: log.logger(), Kill: kill, Decided: func(_ context.Context, d rollout.Decision) {
			mu.Lock()
			told = append(told, d.State)
			n := len(told)
			mu.Unlock()
			if n == 1 {
				<-hold
				panic("for a test")
			}
		}})
		s.load(70*time.Second, 10)
		s.want(rollout.Ramping, 2, .25)
		failsAll(s)
		s.want(rollout.RolledBack, 2, 0)
		if n := log.count("rollout: rolled back"); n != 1 || sent.Load() != 1 {
			t.Errorf("while Decided blocks: %d lines about the rollback, and %d messages of the switch", n, sent.Load())
		}
		close(hold)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if text := fmt.Sprint(told); text != "[ramping ramping rolled back]" {
			t.Errorf("Decided was told %s", text)
		}
		if log.count("Options.Decided has panicked") != 1 {
			t.Error("the panic is not in the log")
		}
	})
}

// A rollback just before the end of Run is in the log, and the latch is published.
func TestRollbackBeforeTheEndOfRunIsPublished(t *testing.T) {
	for range 20 { // the order of the goroutines is by chance
		synctest.Test(t, func(t *testing.T) {
			var sent atomic.Int32
			kill := canary.NewKillSwitch("cart", canary.KillSwitchOptions{Logger: quiet, Broadcast: func(string, []byte) error { sent.Add(1); return nil }})
			s := newSite(t, rollout.Options{Logger: quiet, Kill: kill})
			s.load(5*time.Second, 10)
			failsAll(s)
			s.stop()
			if sent.Load() != 1 {
				t.Errorf("%d messages of the switch", sent.Load())
			}
		})
	}
}

// An opinion lowers the weight, holds the rollout, and takes the canary back, and never raises anything. A panic and a weight that is
// none hold the rollout, and leave a lowered weight as it is.
func TestOpinionOnlyLowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opinion atomic.Pointer[func() rollout.Opinion]
		say := func(fn func() rollout.Opinion) {
			opinion.Store(&fn)
			time.Sleep(11 * time.Second)
		}
		is := func(o rollout.Opinion) func() rollout.Opinion { return func() rollout.Opinion { return o } }
		nothing := is(rollout.Opinion{})
		opinion.Store(&nothing)
		s := newSite(t, rollout.Options{Logger: quiet, Opinion: func(context.Context, rollout.Status) rollout.Opinion { return (*opinion.Load())() }})
		s.want(rollout.Ramping, 1, .05)
		say(is(rollout.Opinion{Most: .02, Reason: "slow"}))
		s.want(rollout.Ramping, 1, .02)
		if o := s.ro.Status().Opinion; o == nil || o.Reason != "slow" {
			t.Errorf("the opinion is %+v", o)
		}
		say(func() rollout.Opinion { panic("for a test") })
		s.want(rollout.Ramping, 1, .02)
		for _, most := range []float64{math.NaN(), -1, 1.1, math.Inf(1)} {
			say(is(rollout.Opinion{Most: most}))
			s.want(rollout.Ramping, 1, .02)
		}
		say(is(rollout.Opinion{Most: .9, Hold: true, Reason: "a fire"}))
		s.want(rollout.Ramping, 1, .05)
		time.Sleep(10 * time.Minute)
		s.want(rollout.Ramping, 1, .05)
		if waits := s.ro.Status().Waits; !strings.Contains(waits, "a fire") {
			t.Errorf("the step waits for %q", waits)
		}
		say(nothing)
		s.want(rollout.Ramping, 2, .25)
		say(is(rollout.Opinion{RollBack: true, Most: math.NaN(), Reason: "no"}))
		s.want(rollout.Aborted, 2, 0)
		say(nothing)
		s.want(rollout.Aborted, 2, 0)
		if err := s.ro.Resume("again"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		s.want(rollout.Ramping, 1, .05)
	})
}

// An opinion that blocks until Run ends holds up nothing.
func TestOpinionMayBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Opinion: func(ctx context.Context, _ rollout.Status) rollout.Opinion {
			<-ctx.Done()
			return rollout.Opinion{RollBack: true}
		}})
		s.load(61*time.Second, 10)
		s.want(rollout.Ramping, 2, .25)
		failsAll(s)
		s.want(rollout.RolledBack, 2, 0)
	})
}
