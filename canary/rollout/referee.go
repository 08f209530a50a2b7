package rollout

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/guard"
)

// A referee decides what the evidence, the guards and the end of a step mean for the rollout.
type referee struct {
	*control
	*recorder
	opts  *Options
	wake  chan struct{} // has a value if Run should look at once
	send  chan struct{} // has a value if something should be sent at once
	leads atomic.Bool   // Run runs, and no other process decides
}

// urgent makes Run look, and send, at once.
func (r *referee) urgent() {
	poke(r.wake)
	poke(r.send)
}

// consider acts on evidence that has changed. It is called in the goroutine of a request: from the error of the canary to a
// weight of 0, no other goroutine has to run.
func (r *referee) consider(o canary.Outcome) {
	defer r.urgent() // to wake another goroutine can take longer than all that is before
	if !r.leads.Load() || r.state() == RolledBack {
		return
	}
	if r.evidence.Verdict() == judge.Regression {
		r.worse()
	}
	if o.Has(canary.Panicked) {
		r.countPanics()
	}
	r.countBad()
}

// worse is called when the verdict is Regression.
func (r *referee) worse() {
	if r.opts.Worse == Hold {
		r.fire(onSuspect, "the canary is worse than stable", 0)
		return
	}
	r.trip("the canary is worse than stable")
}

// trip takes the canary back for good. The weight is 0 first, and the switch is latched then.
func (r *referee) trip(reason string) {
	if r.fire(onWorse, reason, 0) {
		r.latch(reason)
	}
}

// latch latches the switch in this process.
func (r *referee) latch(reason string) {
	if r.opts.Kill != nil {
		r.opts.Kill.LatchNow(reason)
	}
}

// countPanics looks at the budget of panics.
func (r *referee) countPanics() {
	if r.opts.Panics < 0 {
		return
	}
	stable, of := r.evidence.Counts()
	if stable.Panics == 0 && of.Panics >= uint64(r.opts.Panics) {
		r.trip(fmt.Sprintf("%d panics of the canary, and none of stable", of.Panics))
	}
}

// countBad looks at the limit of bad outcomes.
func (r *referee) countBad() {
	if r.opts.MaxBad == 0 {
		return
	}
	if lower, _ := r.evidence.BadRate(); lower > r.opts.MaxBad {
		r.trip(fmt.Sprintf("the canary has more than %v bad outcomes, which is the limit", r.opts.MaxBad))
	}
}

// review does what is due: the evidence is settled and judged, and the step ends.
func (r *referee) review() {
	now := time.Now()
	r.leads.Store(!r.follows())
	r.followPlan()
	r.reportRunning(now)
	if r.evidence.Settle(r.clock.at(now)) {
		poke(r.send)
	}
	if r.leads.Load() {
		r.judge(now)
	}
}

// follows reports whether another process decides. If Options.Follows panics, this process decides.
func (r *referee) follows() (yes bool) {
	_ = guard.Call(func() error { yes = r.opts.Follows(); return nil })
	return yes
}

// followPlan takes over a plan that has changed.
func (r *referee) followPlan() {
	if r.opts.Plan == nil {
		return
	}
	plan, err := r.opts.plan()
	if err == nil {
		err = r.opts.check(plan)
	}
	if err = r.follow(plan, err); err != nil {
		r.opts.Logger.Error("rollout: the new plan is refused, the plan before stays if there was one", slog.String("name", r.opts.Name), slog.Any("err", err))
	}
}

// judge fires what the evidence, the guards and the step say.
func (r *referee) judge(now time.Time) {
	if r.opts.Opinion == nil {
		r.forget()
	}
	verdict := r.evidence.Verdict()
	if verdict == judge.Regression {
		r.worse()
	}
	r.countPanics()
	r.countBad()
	if r.mayBegin() && r.state() == Waiting {
		r.beginsWarmUp() // before the event, as a message with the event has the time of the warm-up
		r.fire(onReady, "the canary is ready", r.canaryRequests())
	}
	r.endStep(now, verdict)
}

// endStep ends the step if that is due.
func (r *referee) endStep(now time.Time, verdict judge.Verdict) {
	r.tick(r.killed(), now)
	l, ended := r.look(), r.canaryRequests()
	waits := r.waits(now, verdict, l, ended)
	r.end(l, now, ended, func(m *machine, steps int) (event, string, bool) {
		switch {
		case waits == "" && l.step.Gate && !m.passed:
			return onGate, "the step has ended at its gate", true
		case waits == "" && m.step+1 < steps:
			return onStep, "the step has ended", true
		case waits == "":
			return onLast, "the last step has ended", true
		case r.opts.Deadline == 0 || m.inStep(now) < r.opts.Deadline:
			return 0, "", false
		case r.opts.Late == Hold:
			return onLate, "the step did not end in time: " + waits, true
		}
		return onTooLate, "the step did not end in time: " + waits, true
	})
}

// waits returns what the step waits for, or "" if the step may end. A process that has taken over may know of fewer requests than
// there were when the step began.
func (r *referee) waits(now time.Time, verdict judge.Verdict, l look, ended uint64) string {
	m, step := &l.machine, l.step
	ended -= min(ended, m.began)
	switch {
	case m.state != Ramping:
		return m.state.String()
	case r.killed():
		return "the rollout is killed"
	case r.opts.SetWeight != nil && l.set != l.weight:
		return fmt.Sprintf("SetWeight has not set the weight %v", l.weight)
	case l.opinion.Hold || l.opinion.Most > 0 && l.opinion.Most <= step.Weight:
		return "the external judge holds the rollout: " + l.opinion.Reason
	case verdict >= judge.Amber:
		return "the evidence is " + verdict.String()
	case m.inStep(now) < step.For:
		return fmt.Sprintf("%v of the step are left", (step.For - m.inStep(now)).Round(time.Second/10))
	case ended < step.MinSamples:
		return fmt.Sprintf("%d of %d requests of the canary", ended, step.MinSamples)
	case r.opts.Proof && !r.proven(verdict):
		return "it is not shown that the canary is not bad"
	}
	return ""
}

// killed reports whether Options.Kill is killed or latched, by anybody.
func (r *referee) killed() bool { return r.opts.Kill != nil && r.opts.Kill.Status().State != "open" }

// proven reports whether it is shown that the canary is not bad.
func (r *referee) proven(verdict judge.Verdict) bool {
	_, upper := r.evidence.BadRate()
	return verdict == judge.Pass || r.opts.MaxBad > 0 && upper < r.opts.MaxBad
}

// canaryRequests returns how many requests of the canary have ended.
func (r *referee) canaryRequests() uint64 {
	_, of := r.evidence.Counts()
	return of.Requests
}
