package rollout_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/internal/testutil"
)

func newRollout(t testing.TB, opts rollout.Options) *rollout.Rollout {
	t.Helper()
	opts.Logger = quiet
	if opts.Steps == nil {
		opts.Steps = step(.05, 24*time.Hour)
	}
	ro, err := rollout.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return ro
}

// A good outcome allocates nothing, on both sides, with all options that look at requests, and neither does a bad one that is judged
// at once.
func TestOutcomeAllocatesNothing(t *testing.T) {
	settles := rollout.Options{Judge: judge.Options{Settle: time.Second, Slow: time.Second}}
	ignores := rollout.Options{Ignore: func(r *http.Request) bool { return r.Method == http.MethodHead }, MaxBad: .9, Worse: rollout.Hold}
	for _, row := range []struct {
		name   string
		opts   rollout.Options
		status int
	}{
		{"good", rollout.Options{}, http.StatusOK}, {"good, settled later", settles, http.StatusOK},
		{"good, with Ignore", ignores, http.StatusOK}, {"bad", ignores, http.StatusInternalServerError},
	} {
		ro := newRollout(t, row.opts)
		stop := start(t, ro)
		for _, side := range []canary.Side{canary.Stable, canary.Canary} {
			out := sent(side, .05, row.status)
			one := func() {
				o := out
				o.Begun = ro.Begin(o)
				ro.Observe(o)
			}
			if n := testing.AllocsPerRun(5000, one); n != 0 {
				t.Errorf("%s, %v: %v allocations", row.name, side, n)
			}
		}
		stop()
	}
}

// A takes has the durations of what rollouts have done, and of a loop that does nothing for about as long as the first, as the
// machine interrupts that loop as often. If the machine is busy, the tails are those of the loop.
type takes struct{ zero, observe, nothing []time.Duration }

// toZero returns how long the deciding Observe of fresh rollouts takes until the weight is 0, and until it returns. If inSwitch is
// true, the rollout latches a switch too.
func toZero(t testing.TB, n int, inSwitch bool) (all takes) {
	for range n {
		var opts rollout.Options
		if inSwitch {
			opts.Kill = canary.NewKillSwitch("cart", canary.KillSwitchOptions{Logger: quiet})
		}
		ro := newRollout(t, opts)
		stop := start(t, ro)
		for range 2000 {
			ro.Observe(sent(canary.Stable, .05, http.StatusOK))
		}
		ro.Observe(sent(canary.Stable, .05, http.StatusInternalServerError))
		found := false
		for i := 0; !found && i < 100; i++ {
			o := sent(canary.Canary, .05, http.StatusInternalServerError)
			began := time.Now()
			ro.Observe(o)
			took := time.Since(began)
			if found = ro.Weight() == 0; !found {
				continue
			}
			last := ro.Status().Decisions
			all.zero = append(all.zero, last[len(last)-1].At.Sub(began)) // the weight is in force at the time At
			all.observe = append(all.observe, took)
			began = time.Now()
			for range 10_000 {
			}
			all.nothing = append(all.nothing, time.Since(began))
		}
		if !found {
			t.Fatal("there was no rollback")
		}
		stop()
	}
	return all
}

// BenchmarkErrorToWeightZero prints the time from before the deciding Observe of fresh rollouts until the weight is 0 and until it
// returns, and the time of a loop that does nothing.
func BenchmarkErrorToWeightZero(b *testing.B) {
	for name, inSwitch := range map[string]bool{"weight": false, "weight and switch": true} {
		b.Run(name, func(b *testing.B) {
			all := toZero(b, b.N, inSwitch)
			for what, took := range map[string][]time.Duration{"zero": all.zero, "return": all.observe, "nothing": all.nothing} {
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2]), what+"-p50-ns")
				b.ReportMetric(float64(took[len(took)*99/100]), what+"-p99-ns")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkOutcome is Begin and Observe of a good and of a bad outcome.
func BenchmarkOutcome(b *testing.B) {
	for name, status := range map[string]int{"good": http.StatusOK, "bad": http.StatusInternalServerError} {
		for _, side := range []canary.Side{canary.Stable, canary.Canary} {
			ro := newRollout(b, rollout.Options{Worse: rollout.Hold})
			stop := start(b, ro)
			out := sent(side, .05, status)
			one := func() {
				o := out
				o.Begun = ro.Begin(o)
				ro.Observe(o)
			}
			b.Run(name+" "+side.String(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					one()
				}
			})
			b.Run(name+" "+side.String()+", parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			})
			stop()
		}
	}
}

// BenchmarkVerdict is what each bad outcome costs in package judge.
func BenchmarkVerdict(b *testing.B) {
	j, err := judge.New("a", judge.Options{})
	if err != nil {
		b.Fatal(err)
	}
	bad := judge.Outcome{Weight: .05, Result: judge.Bad}
	j.Observe(bad)
	b.Run("new event", func(b *testing.B) {
		for b.Loop() {
			j.Observe(bad)
			j.Verdict()
		}
	})
	b.Run("same event", func(b *testing.B) {
		for b.Loop() {
			j.Verdict()
		}
	})
}

// The weight is 0 and the switch is latched when the deciding Observe returns, though no other goroutine may run meanwhile.
func TestObserveItselfTakesTheCanaryBack(t *testing.T) {
	if len(toZero(t, 5, true).zero) != 5 {
		t.Error("a rollback is missing")
	}
	kill := canary.NewKillSwitch("cart", canary.KillSwitchOptions{Logger: quiet})
	ro := newRollout(t, rollout.Options{Kill: kill})
	stop := start(t, ro)
	defer stop()
	for range 100 {
		ro.Observe(sent(canary.Canary, .05, http.StatusInternalServerError))
		zero, latched := ro.Weight() == 0, kill.Status().State == "latched"
		if zero != latched {
			t.Fatalf("the weight is 0: %v, and the switch is latched: %v", zero, latched)
		}
		if zero {
			return
		}
	}
	testutil.Until(t, 0, "a rollback", func() bool { return false })
}
