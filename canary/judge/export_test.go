package judge

// Rises, Falls and PassFalls are the alternatives of the tests.
var Rises, Falls, PassFalls = rises, falls, passFalls

// LabelsForTest is labels.
type LabelsForTest = labels

// Labels returns the events of one test at one weight.
func Labels(weight, canary, stable float64) labels { return labels{weight, canary, stable} }

// Plus returns the labels with one more event, at a weight. The event is of the canary if canary is 1.
func Plus(l labels, weight, canary float64) labels {
	return labels{weight, l.canary + canary, l.stable + 1 - canary}
}

// LogE is logE.
func LogE(r0 float64, factors []factor, at ...labels) float64 { return logE(at, r0, factors) }

// RiskOf is riskOf.
func RiskOf(alpha float64, at ...labels) Risk { return riskOf(at, alpha, false) }

// Alternatives is a list of factors.
type Alternatives = []factor

// MaxUnits and MaxPending are the limits of the same names.
const (
	MaxUnits   = maxUnits
	MaxPending = maxPending
	Baseline   = baseline
)

// Quantise is quantise.
func Quantise(weight float64) int { return quantise(weight) }

// WhileLocked calls f while the lock of the evidence is held.
func WhileLocked(a *Analysis, f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// BadEvidence returns the evidence of bad outcomes, without the rest of a Status.
func BadEvidence(a *Analysis) float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, _ := a.tally()
	return shown(a.opts.Load().weigh(t, &a.memos).tests[badKind])
}

// RateOf is rateOf, of requests that have all ended.
func RateOf(bad, requests, alpha float64) (lower, upper float64) {
	return rateOf(bad, requests, requests, alpha)
}

// MaxSteps is the limit of the same name.
const MaxSteps = maxSteps

// Coarse is coarse.
func Coarse(weight int) int { return coarse(weight) }
