package judge

import (
	"fmt"
	"math"
	"slices"
)

// A Verdict is what the evidence says about the canary.
type Verdict uint8

// The verdicts.
const (
	// Inconclusive: go on, as far as the plan of the rollout goes on without a Pass.
	Inconclusive Verdict = iota
	// Pass: the canary has less than twice as many bad outcomes as stable. A canary with twice as many gets a Pass with a
	// probability of at most 5 %. A Pass says nothing about panics and latency. Status.NoPass has the reasons for which there is
	// no Pass: among others, requests that are routed by a key, and a Settle of 0.
	Pass
	// Amber: the evidence is on the way to Regression, so do not give the canary more traffic now. The verdict is not Amber any
	// more when the evidence has gone down again.
	Amber
	// Suspended: the sides do not get the requests that the weight promises, so the evidence is not to be trusted. Hold the
	// weight, and look for what sends requests past the weight.
	Suspended
	// Regression: the canary is worse than stable. This is the last verdict of an Analysis.
	Regression
)

var verdicts = []string{"inconclusive", "pass", "amber", "suspended", "regression"}

// String returns the name of the constant in lower case.
func (v Verdict) String() string {
	if int(v) < len(verdicts) {
		return verdicts[v]
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// MarshalText returns the text of String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the text of String.
func (v *Verdict) UnmarshalText(text []byte) error {
	i := slices.Index(verdicts, string(text))
	if i < 0 {
		return fmt.Errorf("judge: there is no verdict %q", text)
	}
	*v = Verdict(i)
	return nil
}

const (
	// beta is the probability with which a canary of passRisk times the bad outcomes gets a Pass.
	beta     = .05
	passRisk = 2
	// At an evidence of suspectAt, the assignment is wrong.
	suspectAt = 1000
)

// passFalls are the alternatives of the test for a Pass: relative risks of 1.6, 1.33, 1 and 0.67, about that of a canary which is
// no worse than stable. With more distant alternatives a Pass needs more events.
var passFalls = inverse(1.25, 1.5, 2, 3)

// shares are the parts of Alpha that the tests of the kinds have. The parts are fixed before the first event.
var shares = [assigned]float64{badKind: .4, panicKind: .2, slow: .1, slow + 1: .1, slow + 2: .1, slow + 3: .1}

// tolerance returns the relative risk of a kind up to which the canary is no worse than stable.
func (o Options) tolerance(kind int) float64 {
	if kind >= slow {
		return o.SlowTolerance
	}
	return o.Tolerance
}

// shareOf returns the part of a kind. Without an absolute threshold, the other thresholds have its part.
func (o Options) shareOf(kind int) float64 {
	switch last := slow + len(cuts{}) - 1; {
	case kind < slow || o.Slow > 0:
		return shares[kind]
	case kind == last:
		return 0
	}
	return shares[kind] + shares[kind]/float64(len(quantiles))
}

// An evidence has the logarithms of the evidence.
type evidence struct {
	tests [assigned]float64 // against each kind's "no worse than stable"
	// all is the logarithm of the mean of the evidence of the tests, each with its share of Alpha. A mean of e-processes is an
	// e-process if all are e-processes given the same past; with units that is checked by simulation only. The mean reaches
	// 1/alpha whenever the evidence of a test reaches 1/(share alpha), and often before, so a mean finds more than a limit for each
	// test (Bonferroni) would. The least of several p values would need such a limit: without a limit, its rate of errors is a
	// multiple of alpha.
	//
	// Source: Vovk and Wang, E-values: Calibration, combination and applications, Annals of Statistics 49(3), 2021, on merging.
	all  float64
	pass float64 // against "passRisk times as bad as stable, or worse"
	// assignment is against "a unit is on the canary with the probability of the weight": the mean of the evidence for too many
	// and of that for too few. A relative risk of 1 means that the odds of the canary are those of the weight.
	assignment float64
}

// A memo has the last result of logE for one test, which is used again as long as the test has no new event.
type memo struct {
	at   []labels
	log  float64  // of at
	next []labels // room for the next labels
}

// logE returns the evidence of the events of a kind.
func (m *memo) logE(t tally, kind int, r0 float64, factors []factor) float64 {
	m.next = t.labels(m.next[:0], kind)
	if !slices.Equal(m.at, m.next) {
		m.at, m.next = m.next, m.at
		m.log = logE(m.at, r0, factors)
	}
	return m.log
}

// memos has a memo for each call of logE in weigh.
type memos struct {
	tests            [assigned]memo
	pass, more, less memo
}

// weigh returns the evidence of a tally. Nothing in it begins anew at a step of the weight: the evidence of the steps is
// multiplied, so that alpha is spent once in a rollout.
func (o Options) weigh(t tally, m *memos) (e evidence) {
	e.all = math.Inf(-1)
	for kind := range e.tests {
		e.tests[kind] = m.tests[kind].logE(t, kind, o.tolerance(kind), rises)
		if share := o.shareOf(kind); share > 0 {
			e.all = logAdd(e.all, math.Log(share)+e.tests[kind])
		}
	}
	e.pass = m.pass.logE(t, badKind, passRisk, passFalls)
	if t.rounded() > 0 {
		t = nil
	}
	e.assignment = logAdd(m.more.logE(t, assigned, 1, rises), m.less.logE(t, assigned, 1, falls)) - math.Ln2
	return e
}
