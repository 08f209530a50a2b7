package judge

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Status has the evidence and where it comes from.
type Status struct {
	// Verdict is that of the method Verdict.
	Verdict Verdict `json:"verdict"`
	// Options are the options in force: those with which the evidence of the rollout has begun.
	Options Options `json:"options"`
	// Evidence is how much more likely the counts are if the canary is worse than stable than if it is not. At AmberAt the
	// verdict is Amber, and at RegressionAt, which is 1 / Options.Alpha, it is Regression. Peak is the greatest Evidence that
	// Verdict has seen.
	Evidence     float64 `json:"evidence"`
	Peak         float64 `json:"peak"`
	AmberAt      float64 `json:"amber_at"`
	RegressionAt float64 `json:"regression_at"`
	// Stable and Canary have the counts at all weights together, and Weights has those at each weight.
	Stable  Counts         `json:"stable"`
	Canary  Counts         `json:"canary"`
	Weights []WeightCounts `json:"weights,omitempty"`
	// Risk is the relative risk of a bad outcome, and Rate is the share of bad outcomes of the canary alone.
	Risk Risk `json:"risk"`
	Rate Rate `json:"rate"`
	// Tests are the tests, whose Evidence is combined to the Evidence above.
	Tests []Test `json:"tests"`
	// Pass is the evidence that the canary is not twice as bad as stable. At PassAt the verdict can be Pass, if NoPass is empty:
	// NoPass is the reason for which there can be no Pass now.
	Pass   float64 `json:"pass"`
	PassAt float64 `json:"pass_at"`
	NoPass string  `json:"no_pass,omitempty"`
	// Assignment is the test of what Assigned has counted.
	Assignment Assignment `json:"assignment"`
	// Waiting is the number of events that are not settled yet. Late is the number of events of requests that took
	// longer than Options.Settle, which is too short then. Halved is how often this process has halved the share of the units and
	// requests that it counts, because too many events were waiting.
	Waiting int    `json:"waiting,omitempty"`
	Late    uint64 `json:"late,omitempty"`
	Halved  int    `json:"halved,omitempty"`
	// Rounded is the number of outcomes and assignments at further weights when a process had counters of 64 weights. These weights
	// were rounded up to two digits, so that Evidence is less than it would be at the exact weights. If Rounded is above 0, there
	// is no Pass, the assignment is not tested, and Risk has neither an Estimate nor an Upper.
	Rounded uint64 `json:"rounded,omitempty"`
	// OtherThresholds is true if another process has counted for other thresholds of the latency. These events are left out.
	OtherThresholds bool `json:"other_thresholds,omitempty"`
}

// Counts are the counts of a side. Requests have ended. With units, Bad and Panics are the numbers of units that
// have had such an outcome.
type Counts struct {
	Requests uint64 `json:"requests"`
	Bad      uint64 `json:"bad"`
	Panics   uint64 `json:"panics"`
	// LeftOut is the number of requests that LeaveOut has counted. It is 0 in WeightCounts.
	LeftOut uint64 `json:"left_out,omitempty"`
}

// WeightCounts are the counts at a weight.
type WeightCounts struct {
	Weight float64 `json:"weight"`
	Stable Counts  `json:"stable"`
	Canary Counts  `json:"canary"`
}

// A Test is the test of one kind of event.
type Test struct {
	// Name is "bad", "panic", "p50", "p90", "p99" or "slow".
	Name string `json:"name"`
	// Threshold is the duration that a request of this kind of event exceeds.
	Threshold time.Duration `json:"threshold,omitempty"`
	// Tolerance is the relative risk up to which the canary is no worse.
	Tolerance float64 `json:"tolerance"`
	// Share is the weight of the Evidence of this test in the mean of all tests.
	Share    float64 `json:"share"`
	Evidence float64 `json:"evidence"`
	// Stable and Canary are the events of each side. With units, they are the units that have had such an event.
	Stable uint64 `json:"stable"`
	Canary uint64 `json:"canary"`
	// Halved is how often the share of the units that are counted has been halved, because many units have had such an event.
	// Units that were counted before stay counted.
	Halved int `json:"halved,omitempty"`
	// DetectableRate is the least share of the requests of the canary with such an event at which this test alone would be a
	// regression by now. DetectableRisk is this share divided by that of stable. Both are 0 if nothing could have been detected.
	DetectableRate float64 `json:"detectable_rate,omitempty"`
	DetectableRisk float64 `json:"detectable_risk,omitempty"`
}

// An Assignment is the test whether the sides get what the weight promises.
type Assignment struct {
	// Stable and Canary are the numbers of the sampled units, and of requests without a unit.
	Stable uint64 `json:"stable"`
	Canary uint64 `json:"canary"`
	// Evidence is that for a wrong assignment. At SuspendedAt the verdict is Suspended.
	Evidence    float64 `json:"evidence"`
	SuspendedAt float64 `json:"suspended_at"`
}

// names are the names of the tests.
var names = [assigned]string{"bad", "panic", "p50", "p90", "p99", "slow"}

// Status returns the evidence, after a call of Verdict.
func (a *Analysis) Status() Status {
	s, t, e := a.evidence()
	s.Risk = riskOf(t.labels(nil, badKind), s.Options.Alpha, a.keyed.Load() || t.rounded() > 0)
	s.Stable, s.Canary = t.side(false), t.side(true)
	for _, c := range t.drawn() {
		s.Weights = append(s.Weights, WeightCounts{Weight: float64(c.weight) / scale, Stable: c.side(false), Canary: c.side(true)})
	}
	for kind := range assigned {
		if s.Options.shareOf(kind) > 0 {
			s.Tests = append(s.Tests, a.test(kind, t, e, s.Options))
		}
	}
	return s
}

// evidence returns the part of a Status that needs the lock, and what the rest is computed from. The rest takes a hundred times as
// long, and the verdict about a bad outcome should not wait for it.
func (a *Analysis) evidence() (s Status, t tally, e evidence) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, exact := a.tally()
	t = slices.Clone(t)
	opts, noPass := a.opts.Load(), a.noPass(t, exact)
	e = opts.weigh(t, &a.memos)
	s = Status{
		Verdict: a.decide(e, noPass), Options: *opts,
		Evidence: shown(e.all), Peak: shown(a.peak), AmberAt: 1 / math.Sqrt(opts.Alpha), RegressionAt: 1 / opts.Alpha,
		Rate: a.rate(opts.Alpha), Pass: shown(e.pass), PassAt: 1 / beta, NoPass: noPass,
		Assignment: Assignment{
			Stable: t.sum(eventsOf(assigned, false)), Canary: t.sum(eventsOf(assigned, true)),
			Evidence: shown(e.assignment), SuspendedAt: suspectAt,
		},
		Late: a.late.Load(), Halved: a.own.halved, Rounded: t.rounded(), OtherThresholds: a.mixed,
	}
	for _, from := range a.senders {
		s.Waiting += len(from.waiting)
	}
	return s, t, e
}

// String returns the verdict and its reasons in a line for a log. With units, the numbers of bad outcomes are those of units, and
// the rate is that of requests.
func (s Status) String() string {
	weights := "no weights"
	if n := len(s.Weights); n > 0 {
		weights = fmt.Sprintf("weights of %.4g to %.4g %%", 100*s.Weights[0].Weight, 100*s.Weights[n-1].Weight)
	}
	return fmt.Sprintf("%v: evidence %.4g (needs %.4g), %v, canary %d bad of %d, stable %d bad of %d, %v, %s",
		s.Verdict, s.Evidence, s.RegressionAt, s.Risk,
		s.Canary.Bad, s.Canary.Requests, s.Stable.Bad, s.Stable.Requests, s.Rate, weights)
}

// BadRate returns Lower and Upper of Status.Rate. It is cheap enough to be called after each bad outcome: a guard can roll back
// when lower is above a limit, and a step can go on when upper is below a limit, though there is no Pass.
func (a *Analysis) BadRate() (lower, upper float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.rate(a.opts.Load().Alpha)
	return r.Lower, r.Upper
}

// shown returns the evidence of a logarithm. JSON has no infinity.
func shown(log float64) float64 { return min(math.Exp(log), math.MaxFloat64) }

func (c count) side(canary bool) Counts {
	return Counts{Requests: c.n[requestsOf(canary)], Bad: c.n[eventsOf(badKind, canary)], Panics: c.n[eventsOf(panicKind, canary)]}
}

func (t tally) side(canary bool) Counts {
	c := Counts{
		Requests: t.sum(requestsOf(canary)), Bad: t.sum(eventsOf(badKind, canary)), Panics: t.sum(eventsOf(panicKind, canary)),
	}
	c.LeftOut = t.leftOut(canary)
	return c
}

// test returns the status of a test.
func (a *Analysis) test(kind int, t tally, e evidence, opts Options) Test {
	r := Test{
		Name: names[kind], Tolerance: opts.tolerance(kind), Share: opts.shareOf(kind), Evidence: shown(e.tests[kind]),
		Stable: t.sum(eventsOf(kind, false)), Canary: t.sum(eventsOf(kind, true)), Halved: a.units[kind].halved(),
	}
	if kind >= slow {
		r.Threshold = a.latency.cuts.Load()[kind-slow]
	}
	var requests []float64
	for _, c := range t.drawn() {
		requests = append(requests, float64(c.n[requestsOf(true)]))
	}
	events, ok := detectable(t.labels(nil, kind), requests, r.Tolerance, -math.Log(opts.Alpha*r.Share))
	if !ok {
		return r
	}
	r.DetectableRate = events / float64(t.sum(requestsOf(true)))
	if all := t.sum(requestsOf(false)); all > 0 && r.Stable > 0 {
		r.DetectableRisk = r.DetectableRate / (float64(r.Stable) / float64(all))
	}
	return r
}

// noPass returns why there can be no Pass, if there is a reason. The caller holds mu.
func (a *Analysis) noPass(t tally, exact bool) string {
	switch {
	case a.keyed.Load():
		return "requests are routed by a key"
	case a.opts.Load().Settle == 0:
		return "events are counted at once: Options.Settle is 0"
	case t.leftOut(false)+t.leftOut(true) > 0:
		return "requests are left out"
	case t.rounded() > 0:
		return "weights are rounded up: there were more than 64"
	case t.unended():
		return "fewer than 90 % of the assigned requests of a side have ended"
	case !exact:
		return "the counters have changed while they were read"
	}
	return ""
}
