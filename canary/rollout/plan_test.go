package rollout_test

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/canary/rollout"
)

// step returns a plan with one step.
func step(weight float64, d time.Duration) rollout.Steps {
	return rollout.Steps{{Weight: weight, For: d}}
}

// An option that cannot be used is an error that names the option and the value.
func TestBadOptionsAreNamed(t *testing.T) {
	one := step(.05, time.Minute)
	for want, opts := range map[string]rollout.Options{
		"the plan has no step":                     {},
		"step 1 has the weight 0:":                 {Steps: step(0, 0)},
		"step 1 has the weight 1.5":                {Steps: step(1.5, 0)},
		"step 1 has the weight NaN":                {Steps: step(math.NaN(), 0)},
		"step 1 lasts -1s":                         {Steps: step(.1, -time.Second)},
		"step 2 has the weight 0.1, and":           {Steps: append(step(.1, 0), step(.1, 0)...)},
		"step 1 has the weight 1 and MinSamples":   {Steps: rollout.Steps{{Weight: 1, MinSamples: 5}}},
		"step 1 has the weight 2":                  {Plan: func() rollout.Steps { return step(2, 0) }},
		"MaxBad is -0.1":                           {Steps: one, MaxBad: -.1},
		"MaxBad is 1:":                             {Steps: one, MaxBad: 1},
		"MaxBad is NaN":                            {Steps: one, MaxBad: math.NaN()},
		"Deadline is -1s":                          {Steps: one, Deadline: -time.Second},
		"step 1 lasts 1m0s, and Deadline is 30s":   {Steps: one, Deadline: 30 * time.Second},
		"AskEvery is -1s":                          {Steps: one, AskEvery: -time.Second},
		"Proof without MaxBad and Judge.Settle":    {Steps: one, Proof: true},
		"Late is 2":                                {Steps: one, Late: 2},
		"Worse is 7":                               {Steps: one, Worse: 7},
		"Alpha is 2":                               {Steps: one, Judge: judge.Options{Alpha: 2}},
		"with 129 bytes: choose a text of at most": {Steps: one, Name: strings.Repeat("n", 129)},
		"with 257 bytes: choose a text of at most": {Steps: one, Salt: strings.Repeat("s", 257)},
		`Salt is "\xff"`:                           {Steps: one, Salt: "\xff"},
		"Settle is -1s":                            {Steps: one, Judge: judge.Options{Settle: -time.Second}},
	} {
		if _, err := rollout.New(opts); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "rollout: ") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A rollout waits until its plan has a step, and a plan that is empty after that changes nothing.
func TestRolloutWaitsForItsPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := new(changing)
		s := newSite(t, rollout.Options{Plan: plan.get})
		time.Sleep(time.Hour)
		s.want(rollout.Waiting, 0, 0)
		if err := s.ro.Promote("now"); err != rollout.ErrNotReady {
			t.Errorf("Promote = %v", err)
		}
		plan.set(step(.3, time.Hour)...)
		time.Sleep(time.Second)
		s.want(rollout.Ramping, 1, .3)
		plan.set()
		time.Sleep(time.Second)
		s.want(rollout.Ramping, 1, .3)
	})
}

// changing is a plan that a test changes.
type changing struct {
	mu    sync.Mutex
	steps rollout.Steps
}

func (c *changing) get() rollout.Steps {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.steps
}

// set changes the plan, and waits until a running rollout has looked.
func (c *changing) set(steps ...rollout.Step) {
	c.mu.Lock()
	c.steps = steps
	c.mu.Unlock()
	time.Sleep(time.Second)
}

// A plan that changes during a step counts at once. A plan with an error is logged once, and stays without effect. A plan with fewer
// steps keeps the rollout in the last step, and the plan never changes the reason of the state.
func TestPlanMayChangeDuringAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changing{steps: plan}
		log := &lines{}
		s := newSite(t, rollout.Options{Plan: c.get, Logger: log.logger()})
		s.load(130*time.Second, 10)
		s.want(rollout.Ramping, 3, .5)
		c.set(rollout.Step{Weight: .05, For: time.Minute}, rollout.Step{Weight: .1, For: time.Minute}, rollout.Step{Weight: .2, For: time.Hour})
		s.want(rollout.Ramping, 3, .2)
		for range 2 {
			c.set(rollout.Step{Weight: 7})
			c.set()
		}
		s.want(rollout.Ramping, 3, .2)
		if n := log.count("the new plan is refused"); n != 4 {
			t.Errorf("%d lines about refused plans, want 4", n)
		}
		c.set()
		time.Sleep(10 * time.Second)
		if n := log.count("the new plan is refused"); n != 4 {
			t.Errorf("%d lines about refused plans, want 4, as the plan is the same", n)
		}
		c.set(rollout.Step{Weight: .15, For: time.Hour})
		s.want(rollout.Ramping, 1, .15)
		if err := s.ro.Pause("lunch"); err != nil {
			t.Error(err)
		}
		c.set(rollout.Step{Weight: .1, For: time.Second})
		time.Sleep(time.Minute)
		s.want(rollout.Paused, 1, .1)
		if got := s.ro.Status().Reason; got != "lunch" {
			t.Errorf("the rollout is paused because of %q", got)
		}
		if err := s.ro.Resume("back"); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		s.want(rollout.Promoted, 1, 1)
		c.set(rollout.Step{Weight: .2})
		s.want(rollout.Promoted, 1, 1)
	})
}

// A step with a gate waits for Resume, however long, and then ends at once.
func TestGateWaitsForAnOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Deadline: time.Hour, Steps: rollout.Steps{
			{Weight: .1, For: time.Minute, Gate: true}, {Weight: .2, For: time.Minute, Gate: true}}})
		s.load(59*time.Second, 1)
		s.want(rollout.Ramping, 1, .1)
		s.load(70*time.Minute, 1)
		s.want(rollout.Gated, 1, .1)
		if err := s.ro.Resume("good"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		s.want(rollout.Ramping, 2, .2)
		_ = s.ro.Resume("again")
		time.Sleep(58 * time.Second)
		s.want(rollout.Ramping, 2, .2)
		time.Sleep(2 * time.Second)
		s.want(rollout.Gated, 2, .2)
		_ = s.ro.Pause("at the gate")
		_ = s.ro.Resume("back to the gate")
		time.Sleep(time.Second)
		s.want(rollout.Gated, 2, .2)
		_ = s.ro.Resume("good")
		time.Sleep(time.Second)
		s.want(rollout.Promoted, 2, 1)
	})
}

// A step waits for Step.MinSamples requests of the canary in this step; those of the steps before do not count.
func TestMinSamplesCountInTheirStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Steps: rollout.Steps{{Weight: .5, MinSamples: 50}, {Weight: .6, MinSamples: 50}}})
		for number, weight := range map[int]float64{1: .5} {
			for s.n[canary.Canary] < 50 {
				s.want(rollout.Ramping, number, weight)
				s.load(time.Second, 1)
			}
		}
		time.Sleep(time.Second)
		s.want(rollout.Ramping, 2, .6)
		for s.n[canary.Canary] < 99 {
			s.load(time.Second, 1)
		}
		if s.n[canary.Canary] == 99 {
			time.Sleep(10 * time.Minute)
			s.want(rollout.Ramping, 2, .6)
		}
		s.load(20*time.Second, 1)
		s.want(rollout.Promoted, 2, 1)
	})
}

// A step that cannot end, for lack of requests or of proof, ends at its deadline by the policy. Pauses do not count.
func TestDeadlineEndsAStepThatCannotEnd(t *testing.T) {
	for name, opts := range map[string]rollout.Options{
		"requests": {Steps: rollout.Steps{{Weight: .25, For: time.Minute, MinSamples: 10}}},
		"proof":    {Steps: step(.25, time.Minute), Proof: true, MaxBad: 1e-9},
	} {
		for _, late := range []rollout.Policy{rollout.RollBack, rollout.Hold} {
			synctest.Test(t, func(t *testing.T) {
				opts.Deadline, opts.Late, opts.Logger = 10*time.Minute, late, quiet
				s := newSite(t, opts)
				rate := 1
				if name == "requests" {
					rate = 0
				}
				wait := func(d time.Duration) {
					if rate > 0 {
						s.load(d, rate)
					} else {
						time.Sleep(d)
					}
				}
				wait(9 * time.Minute)
				_ = s.ro.Pause("lunch")
				wait(15 * time.Minute)
				_ = s.ro.Resume("back")
				wait(50 * time.Second)
				s.want(rollout.Ramping, 1, .25)
				wait(20 * time.Second)
				if late == rollout.RollBack {
					s.want(rollout.Aborted, 1, 0)
				} else {
					s.want(rollout.Held, 1, .25)
					_ = s.ro.Resume("once more")
					wait(9 * time.Minute)
					s.want(rollout.Ramping, 1, .25)
					wait(2 * time.Minute)
					s.want(rollout.Held, 1, .25)
				}
				if reason := s.ro.Status().Reason; !strings.Contains(reason, "did not end in time: ") || !strings.Contains(reason, name[:5]) && name == "requests" {
					t.Errorf("the reason is %q", reason)
				}
			})
		}
	}
}

// With Proof, a step ends when the verdict is Pass, and without a proof it does not.
func TestProofIsAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Steps: step(.25, time.Minute), Proof: true, Judge: judge.Options{Settle: time.Second}})
		s.bad = [2]func(int) bool{each(10), each(10)}
		requests := func(n int) {
			for range n {
				s.ask()
				time.Sleep(time.Second / 2)
			}
		}
		requests(150) // about 15 bad outcomes
		s.want(rollout.Ramping, 1, .25)
		if waits := s.ro.Status().Waits; !strings.Contains(waits, "not shown") {
			t.Errorf("the step waits for %q", waits)
		}
		requests(3000)
		s.want(rollout.Promoted, 1, 1)
	})
}

// With Proof, a step also ends when the canary has fewer bad outcomes than MaxBad, and a canary with more is rolled back in the
// request, whatever stable does.
func TestMaxBadIsALimitAndAProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{Logger: quiet, Steps: step(.5, time.Minute), Proof: true, MaxBad: .05})
		for range 4000 {
			s.ask()
			time.Sleep(time.Second / 20)
		}
		s.want(rollout.Promoted, 1, 1)
	})
	synctest.Test(t, func(t *testing.T) {
		kill := canary.NewKillSwitch("cart", canary.KillSwitchOptions{Logger: quiet})
		s := newSite(t, rollout.Options{Logger: quiet, Steps: step(.5, time.Hour), MaxBad: .05, Kill: kill})
		s.bad = [2]func(int) bool{each(4), each(4)} // the canary is no worse than stable
		for range 4000 {
			before := s.ro.Weight()
			s.ask()
			if before > 0 && s.ro.Weight() == 0 && kill.Status().State != "latched" {
				t.Error("the switch is not latched when the weight is 0")
			}
			if s.ro.Weight() == 0 {
				break
			}
		}
		s.want(rollout.RolledBack, 1, 0)
		if reason := s.ro.Status().Reason; !strings.Contains(reason, "0.05") {
			t.Errorf("the reason is %q", reason)
		}
	})
}

// A Plan that panics before there is a plan is like one without a step, and the panic is in the log, once.
func TestPlanMayPanicInNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		log := &lines{}
		s := newSite(t, rollout.Options{Logger: log.logger(), Plan: func() rollout.Steps {
			if !works.Load() {
				panic("for a test")
			}
			return plan
		}})
		time.Sleep(time.Minute)
		s.want(rollout.Waiting, 0, 0)
		if n, all := log.count("panic: for a test"), log.count("the new plan is refused"); n != 1 || all != 1 {
			t.Errorf("%d lines about the panic, and %d about refused plans, want 1", n, all)
		}
		works.Store(true)
		time.Sleep(time.Second)
		s.want(rollout.Ramping, 1, .05)
	})
}
