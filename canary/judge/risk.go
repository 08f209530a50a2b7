package judge

import (
	"fmt"
	"math"
)

// A Risk is how often requests of the canary have an event, divided by how often requests of stable have one.
type Risk struct {
	// Estimate is the most likely relative risk. It is 0 if a side has had no event, if there are units, and if Status.Rounded is
	// above 0.
	Estimate float64 `json:"estimate,omitempty"`
	// Lower and Upper are the ends of an interval that has the true relative risk with a probability of at least 1 - alpha, at all
	// times together. An Upper of 0 means that there is no upper end yet. With units, and if weights are rounded, there is no
	// Upper, and Lower is 0 or at least 1.
	Lower float64 `json:"lower"`
	Upper float64 `json:"upper,omitempty"`
}

// String returns the risk as "risk 8.2 (3.1 to 21)". An estimate or an end that is not known is a question mark.
func (r Risk) String() string {
	known := func(x float64) string {
		if x == 0 {
			return "?"
		}
		return fmt.Sprintf("%.3g", x)
	}
	return fmt.Sprintf("risk %s (%.3g to %s)", known(r.Estimate), r.Lower, known(r.Upper))
}

// Relative risks outside of these limits are of no interest to anybody.
const (
	leastRisk    = 1e-6
	greatestRisk = 1e6
)

// riskOf returns the estimate and the interval. The interval has every r0 for which both the evidence that the risk is above r0
// and the evidence that the risk is below r0 are less than 2/alpha. The first falls with r0 and the second rises, so that the
// ends can be found by bisection. A test of each r0 at all times gives an interval at all times: see the source of logE.
//
// With units, only a Lower of at least 1 is right. Each unit counts once, so the units that can still fail run out, and sooner on
// the worse side. In the end all units have failed, and the counts are those of the weight, whatever the risk is. So the counts
// show a risk that is nearer to 1 than the risk of a request.
//
// If weights are rounded up, the lower end alone is right as well.
func riskOf(at []labels, alpha float64, lowerOnly bool) (r Risk) {
	need := math.Log(2 / alpha)
	if lower, ok := bisect(func(r0 float64) bool { return logE(at, r0, rises) < need }); !ok {
		r.Lower = greatestRisk
	} else if lower > leastRisk && (!lowerOnly || lower >= 1) {
		r.Lower = lower
	}
	if lowerOnly {
		return r
	}
	r.Estimate = estimate(at)
	if upper, ok := bisect(func(r0 float64) bool { return logE(at, r0, falls) >= need }); ok {
		r.Upper = upper
	}
	return r
}

// estimate returns the r at which the expected number of events of the canary is the observed one. That is the r with the maximum
// likelihood, by the derivative of the sum of canary ln theta(r, w) + stable ln(1 - theta(r, w)).
func estimate(at []labels) float64 {
	canary, stable := total(at)
	if canary == 0 || stable == 0 {
		return 0
	}
	r, _ := bisect(func(r float64) bool {
		var expected float64
		for _, l := range at {
			expected += (l.canary + l.stable) * l.weight * r / (l.weight*r + 1 - l.weight)
		}
		return expected >= canary
	})
	return r
}

// bisect returns the least relative risk for which above is true, if it is true for greatestRisk. above is false up to a
// relative risk, and true from there on.
func bisect(above func(r float64) bool) (r float64, ok bool) {
	if above(leastRisk) {
		return leastRisk, true
	}
	if !above(greatestRisk) {
		return greatestRisk, false
	}
	low, high := leastRisk, greatestRisk
	for range 50 {
		if mid := math.Sqrt(low * high); above(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high, true
}

// detectable returns the least number of events of the canary for which the evidence of a test reaches need, if the events of
// stable stay as they are. The events are shared out over the weights like the requests of the canary. ok is false if not even
// an event in each request is enough.
func detectable(at []labels, requests []float64, r0, need float64) (events float64, ok bool) {
	all := 0.0
	for _, n := range requests {
		all += n
	}
	reached := func(events float64) bool {
		shared := make([]labels, len(at))
		for i, l := range at {
			shared[i] = labels{weight: l.weight, canary: events * requests[i] / all, stable: l.stable}
		}
		return logE(shared, r0, rises) >= need
	}
	if all == 0 || !reached(all) {
		return 0, false
	}
	low, high := 0.0, all
	for range 50 {
		if mid := (low + high) / 2; reached(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high, true
}
