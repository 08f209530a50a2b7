package rollout_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/canary/rollout"
)

// half is a plan with one long step, at which an event says little.
var half = step(.5, 24*time.Hour)

// A request counts at the weight by which the request was drawn, also if the weight has changed before the request ends.
func TestRequestCountsAtTheWeightThatHasDrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet})
		time.Sleep(59 * time.Second)
		var all sync.WaitGroup
		router := canary.NewRouter(slow, slow, canary.Options{Salt: s.ro.Salt(), Weight: s.ro.Weight, Begin: s.ro.Begin, Observe: s.ro.Observe})
		for range 200 {
			all.Go(func() { router.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) })
		}
		time.Sleep(2 * time.Second)
		s.want(rollout.Ramping, 2, .25)
		all.Wait()
		weights := s.ro.Status().Judge.Weights
		if len(weights) != 1 || weights[0].Weight != .05 || weights[0].Stable.Bad+weights[0].Canary.Bad != 200 {
			t.Errorf("the counts are %+v", weights)
		}
	})
}

// slow fails after 5 seconds.
var slow = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	time.Sleep(5 * time.Second) // of the bubble
	w.WriteHeader(http.StatusInternalServerError)
})

// Requests that Ignore names are in no count, and neither are requests whose side is forced, but for the number that was left out.
func TestIgnoredAndForcedRequestsAreNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Steps: half, Judge: judge.Options{Slow: time.Second},
			Ignore: func(r *http.Request) bool { return r.Header.Get("Probe") != "" }})
		s.bad = [2]func(int) bool{each(2), each(1)}
		s.panics[canary.Canary] = each(3)
		for range 300 {
			s.ask("Probe", "yes")
		}
		if c := s.ro.Status().Judge; c.Stable != (judge.Counts{}) || c.Canary != (judge.Counts{}) || c.Assignment.Stable+c.Assignment.Canary != 0 {
			t.Errorf("ignored requests have counted: %+v", c)
		}
		choose, vary := canary.ByHeader("canary")
		s.router = canary.NewRouter(s.side(canary.Stable), s.side(canary.Canary), canary.Options{
			Salt: s.ro.Salt(), Weight: s.ro.Weight, Begin: s.ro.Begin, Observe: s.ro.Observe, Choose: choose, Vary: vary,
		})
		for range 300 {
			s.ask("Canary", "true", "Takes-canary", "2s")
			s.ask("Canary", "false")
		}
		c := s.ro.Status().Judge
		if want := (judge.Counts{LeftOut: 300}); c.Stable != want || c.Canary != want || c.Evidence > 1.0001 || c.Assignment.Stable+c.Assignment.Canary != 0 {
			t.Errorf("forced requests have counted: %+v", c)
		}
		s.want(rollout.Ramping, 1, .5)
	})
}

// A rescued request is a failure of the canary and no outcome of stable, and a canary that is always rescued is rolled back.
func TestRescuedRequestsCountAgainstTheCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Steps: half, Panics: -1})
		s.router = canary.NewRouter(s.side(canary.Stable), s.side(canary.Canary), canary.Options{Logger: quiet,
			Salt: s.ro.Salt(), Weight: s.ro.Weight, Begin: s.ro.Begin, Observe: s.ro.Observe, Rescue: &canary.Rescue{},
		})
		s.panics[canary.Canary] = each(1)
		n := 0
		for ; s.ro.Weight() > 0 && n < 1000; n++ {
			s.ask()
		}
		s.want(rollout.RolledBack, 1, 0)
		c := s.ro.Status().Judge
		if c.Canary.Panics != c.Canary.Requests || c.Canary.Requests == 0 || c.Stable.Bad != 0 || c.Stable.Requests+c.Canary.Requests != uint64(n) ||
			c.Assignment.Stable+c.Assignment.Canary != uint64(n) {
			t.Errorf("%d requests are counted as %+v", n, c)
		}
	})
}

// A canary that hangs is found, though none of its requests ends: by the thresholds that are learned from stable, and by Judge.Slow.
func TestHungCanaryIsFound(t *testing.T) {
	for name, opts := range map[string]judge.Options{"learned": {}, "absolute": {Slow: time.Second}, "settled": {Slow: time.Second, Settle: 5 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, rollout.Options{Logger: quiet, Steps: half, Judge: opts})
			if name == "learned" {
				s.load(25*time.Second, 100)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			defer all.Wait()
			defer cancel()
			hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			fast := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
			router := canary.NewRouter(fast, hang, canary.Options{Salt: s.ro.Salt(), Weight: s.ro.Weight, Begin: s.ro.Begin, Observe: s.ro.Observe})
			for range 600 {
				all.Go(func() {
					router.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
				})
				time.Sleep(100 * time.Millisecond)
			}
			if got := s.ro.Status(); got.State != rollout.RolledBack || got.Weight != 0 || got.Judge.Canary.Bad > 0 {
				t.Errorf("%s: the rollout is %v with %+v", name, got.State, got.Judge.Canary)
			}
		})
	}
}

// The canary is rolled back at the third panic if stable has had none, however little that says, in the goroutine of the request. A user
// counts once.
func TestPanicsHaveABudget(t *testing.T) {
	for _, c := range []struct {
		name   string
		budget int
		stable bool // stable has had a panic
		user   string
		last   int // the panic that takes the canary back; 0: none of the first eight
	}{
		{"default", 0, false, "", 3}, {"five", 5, false, "", 5}, {"stable too", 0, true, "", 0}, {"none", -1, false, "", 0}, {"one user", 0, false, "joe", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			kill := canary.NewKillSwitch("cart", canary.KillSwitchOptions{Logger: quiet})
			s := newSite(t, rollout.Options{Logger: quiet, Steps: step(.7, 24*time.Hour), Panics: c.budget, Kill: kill})
			s.panics[canary.Canary] = each(1)
			s.panics[canary.Stable] = func(n int) bool { return c.stable && n == 0 }
			for s.n[canary.Stable] == 0 {
				s.panics[canary.Canary] = never
				s.ask()
			}
			s.panics[canary.Canary] = each(1)
			before, user := s.n[canary.Canary], c.user
			for i := 0; user != "" && s.n[canary.Canary] == before; i++ { // a user of the canary
				user = fmt.Sprint(c.user, i)
				s.ask("User", user)
			}
			for panics := s.n[canary.Canary] - before; panics < 8; panics = s.n[canary.Canary] - before {
				if gone := c.last > 0 && panics >= c.last; gone != (s.ro.Weight() == 0) || gone != (kill.Status().State == "latched") {
					t.Fatalf("%s: after %d panics the weight is %v, and the switch is %s", c.name, panics, s.ro.Weight(), kill.Status().State)
				} else if gone {
					if reason := s.ro.Status().Reason; !strings.Contains(reason, fmt.Sprintf("%d panics", c.last)) {
						t.Errorf("%s: the reason is %q", c.name, reason)
					}
					return
				}
				s.ask("User", user)
			}
		})
	}
}

// At the weight 1, in a step and after the promotion, panics do not count: stable has no requests to compare with.
func TestPanicsAtTheWeight1DoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Steps: step(1, time.Minute)})
		s.panics[canary.Canary] = each(1)
		for _, state := range []rollout.State{rollout.Ramping, rollout.Promoted} {
			s.want(state, 1, 1)
			s.load(59*time.Second, 10)
			s.want(state, 1, 1)
			time.Sleep(2 * time.Second)
		}
		if n := s.ro.Status().Judge.Canary.Panics; s.n[canary.Canary] < 1000 || n != 0 {
			t.Errorf("%d panics, of which %d count", s.n[canary.Canary], n)
		}
	})
}

// The time during which the rollout is killed is no time of the step: the canary has had no request.
func TestKilledTimeIsNoTimeOfTheStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kill := canary.NewKillSwitch("cart", canary.KillSwitchOptions{Logger: quiet})
		if err := kill.Kill("an incident"); err != nil {
			t.Fatal(err)
		}
		s := newSite(t, rollout.Options{Logger: quiet, Kill: kill})
		time.Sleep(10 * time.Minute)
		if err := kill.Revive("over"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		s.want(rollout.Ramping, 1, .05)
		time.Sleep(15 * time.Second)
		s.want(rollout.Ramping, 2, .25)
	})
}

// While an operator has killed the rollout, no step ends.
func TestKilledRolloutHasNoStepThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kill := canary.NewKillSwitch("cart", canary.KillSwitchOptions{Logger: quiet})
		s := newSite(t, rollout.Options{Logger: quiet, Kill: kill})
		s.load(30*time.Second, 10)
		if err := kill.Kill("an incident"); err != nil {
			t.Fatal(err)
		}
		n := s.n[canary.Canary]
		s.load(5*time.Minute, 1)
		s.want(rollout.Ramping, 1, .05)
		if waits := s.ro.Status().Waits; !strings.Contains(waits, "killed") || s.n[canary.Canary] != n {
			t.Errorf("the step waits for %q, and the canary has got %d requests", waits, s.n[canary.Canary]-n)
		}
		if err := kill.Revive("over"); err != nil {
			t.Fatal(err)
		}
		s.load(35*time.Second, 10)
		s.want(rollout.Ramping, 2, .25)
	})
}

// With Worse: Hold, a canary that is found to be worse keeps its weight, and can be promoted and aborted, but not resumed. A guard
// takes it back all the same.
func TestWorseCanaryMayBeHeld(t *testing.T) {
	held := func(t *testing.T) *site {
		s := newSite(t, rollout.Options{Logger: quiet, Worse: rollout.Hold, Steps: step(.25, time.Minute)})
		s.bad[canary.Canary] = each(1)
		for range 100 {
			s.ask()
		}
		s.want(rollout.Held, 1, .25)
		s.load(5*time.Minute, 1)
		s.want(rollout.Held, 1, .25)
		if err := s.ro.Resume("please"); err != rollout.ErrWorse {
			t.Errorf("Resume = %v", err)
		}
		return s
	}
	for want, then := range map[rollout.State]func(s *site) error{
		rollout.Promoted: func(s *site) error { return s.ro.Promote("we know better") },
		rollout.Aborted:  func(s *site) error { return s.ro.Abort("no") },
		rollout.RolledBack: func(s *site) error {
			s.panics[canary.Canary] = each(1)
			s.load(time.Minute, 1)
			return nil
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := held(t)
			if err := then(s); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			if got := s.ro.Status(); got.State != want {
				t.Errorf("the rollout is %v, want %v", got.State, want)
			}
		})
	}
}

// Before Run, the rollout has no weight, and an operator can only abort it. Each method may be called again in each state: nothing
// changes then.
func TestOperatorMethodsMayBeRepeated(t *testing.T) {
	ro, err := rollout.New(rollout.Options{Steps: plan, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"Pause": ro.Pause(""), "Resume": ro.Resume(""), "Promote": ro.Promote("")} {
		if err != rollout.ErrNotReady {
			t.Errorf("%s before Run = %v", name, err)
		}
	}
	if err := ro.Abort("no"); err != nil || ro.Weight() != 0 || ro.Status().State != rollout.Aborted {
		t.Errorf("Abort before Run: %v, %v", err, ro.Status().State)
	}
	type method struct {
		name string
		call func(*rollout.Rollout, string) error
	}
	methods := []method{
		{"Pause", (*rollout.Rollout).Pause}, {"Resume", (*rollout.Rollout).Resume},
		{"Promote", (*rollout.Rollout).Promote}, {"Abort", (*rollout.Rollout).Abort},
	}
	reach := map[rollout.State]func(*site){
		rollout.Waiting: func(s *site) {}, rollout.Ramping: func(s *site) {}, rollout.Gated: func(s *site) { time.Sleep(2 * time.Minute) },
		rollout.Paused: func(s *site) { _ = s.ro.Pause("") }, rollout.Promoted: func(s *site) { _ = s.ro.Promote("") },
		rollout.Aborted: func(s *site) { _ = s.ro.Abort("") }, rollout.RolledBack: failsAll,
		rollout.Held: func(s *site) { time.Sleep(6 * time.Minute) },
	}
	for state, path := range reach {
		for _, m := range methods {
			synctest.Test(t, func(t *testing.T) {
				first := rollout.Step{Weight: .05, For: time.Minute, Gate: state == rollout.Gated}
				opts := rollout.Options{Logger: quiet, Steps: rollout.Steps{first, {Weight: .5, For: time.Hour}}}
				if state == rollout.Waiting {
					opts.Ready = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
				}
				if state == rollout.Held {
					opts.Proof, opts.MaxBad, opts.Deadline, opts.Late, opts.Steps = true, 1e-9, 5*time.Minute, rollout.Hold, step(.05, time.Minute)
				}
				s := newSite(t, opts)
				path(s)
				if got := s.ro.Status().State; got != state {
					t.Fatalf("the rollout is %v, want %v", got, state)
				}
				synctest.Wait()
				errs := []error{m.call(s.ro, "once")}
				synctest.Wait()
				second := s.ro.Status()
				for range 3 {
					errs = append(errs, m.call(s.ro, "again"))
					synctest.Wait()
				}
				last := s.ro.Status()
				if len(slices.Compact(slices.Clone(errs))) > 1 {
					t.Errorf("%s in %v: %v", m.name, state, errs)
				}
				// A rollout that waits again begins by itself.
				if n := len(last.Decisions) - len(second.Decisions); n > 0 && second.State != rollout.Waiting || last.Reason == "again" {
					t.Errorf("%s in %v again: from %v to %v (%q)", m.name, state, second.State, last.State, last.Reason)
				}
			})
		}
	}
}

// Record counts the outcomes of the program by the side of the request, and returns an error for a context without a side, for a bad
// name, and for too many names.
func TestRecordCountsBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Steps: half})
		for want, err := range map[string]error{
			"has no side": s.ro.Record(t.Context(), "bought", true),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
		record := func(name string, bad bool) (side canary.Side, err error) {
			h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				side, _ = canary.SideFromContext(r.Context())
				err = s.ro.Record(r.Context(), name, bad)
			})
			rt := canary.NewRouter(h, h, canary.Options{Weight: s.ro.Weight, SideInContext: true})
			rt.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			return side, err
		}
		var bad, all [2]uint64
		for i := range 200 {
			side, err := record("bought", i%3 == 0)
			if err != nil {
				t.Fatal(err)
			}
			all[side]++
			if i%3 == 0 {
				bad[side]++
			}
		}
		uses := s.ro.Status().Uses
		if len(uses) != 1 || uses[0].Name != "bought" {
			t.Fatalf("the uses are %+v", uses)
		}
		for side, got := range []rollout.Share{uses[0].Stable, uses[0].Canary} {
			mean := float64(bad[side]) / float64(all[side])
			if got.Bad != bad[side] || got.All != all[side] || !(got.Rate.Lower > 0 && got.Rate.Lower <= mean && mean <= got.Rate.Upper && got.Rate.Upper < 1) {
				t.Errorf("%v: %+v, want %d of %d", canary.Side(side), got, bad[side], all[side])
			}
		}
		for _, name := range []string{"", strings.Repeat("x", 65), "\xff"} {
			if _, err := record(name, true); err == nil || !strings.Contains(err.Error(), "choose one of 1 to 64") {
				t.Errorf("the name %q: %v", name, err)
			}
		}
		for i := range 15 {
			if _, err := record(fmt.Sprint("name ", i), false); err != nil {
				t.Error(err)
			}
		}
		if _, err := record("one more", false); err == nil || !strings.Contains(err.Error(), `"one more"`) {
			t.Errorf("a 17th name: %v", err)
		}
		if _, err := record("bought", false); err != nil {
			t.Errorf("a known name: %v", err)
		}
	})
}

// In the time of Options.WarmUp a slow canary is no regression, and a bad one is. After that time a slow canary is found.
func TestWarmUpIsForTheLatencyOnly(t *testing.T) {
	for _, kind := range []string{"slow", "bad", "slow after it"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, rollout.Options{WarmUp: 5 * time.Minute, Steps: rollout.Steps{{Weight: .2, For: time.Hour}}})
			ask := func(n int, takes string) {
				for range n {
					s.ask("Takes-stable", "10ms", "Takes-canary", takes)
				}
			}
			ask(2000, "10ms") // stable's thresholds are known
			switch kind {
			case "slow":
				ask(2000, "40ms")
				s.want(rollout.Ramping, 1, .2)
			case "bad":
				s.bad[canary.Canary] = each(2)
				ask(200, "10ms")
				s.want(rollout.RolledBack, 1, 0)
			case "slow after it":
				time.Sleep(10 * time.Minute)
				ask(2000, "40ms")
				s.want(rollout.RolledBack, 1, 0)
			}
		})
	}
}

// A panic of Bad or of Ignore loses no outcome: the outcome is what Outcome.Failed says, and the request counts. The first panic is in
// the log.
func TestPanicOfBadOrIgnoreLosesNoOutcome(t *testing.T) {
	for name, opts := range map[string]rollout.Options{
		"Bad": {Bad: func(o canary.Outcome) bool {
			if o.Status >= 500 {
				panic("for a test")
			}
			return false
		}},
		"Ignore": {Ignore: func(*http.Request) bool { panic("for a test") }},
	} {
		synctest.Test(t, func(t *testing.T) {
			log := &lines{}
			opts.Logger, opts.Steps = log.logger(), step(.5, time.Hour)
			s := newSite(t, opts)
			failsAll(s)
			s.want(rollout.RolledBack, 1, 0)
			if n := log.count("Options." + name + " has panicked"); n != 1 {
				t.Errorf("%s: %d lines about the panic", name, n)
			}
		})
	}
}
