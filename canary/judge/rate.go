package judge

import (
	"fmt"
	"math"
)

// A Rate is the share of bad outcomes among the requests of the canary that have ended, at weights above 0 and below 1. A request
// that was reported as bad while it was running counts as one that has ended. Retries, repeats of a unit and bad outcomes that
// wait for Settle count too: Rate is about requests, and not about units.
type Rate struct {
	Estimate float64 `json:"estimate"`
	// Lower and Upper are the ends of an interval that has the rate with a probability of at least 1 - Options.Alpha, at all times
	// together. This probability is beside that of a false Regression.
	//
	// The rate in the interval is the mean, over the requests that have ended, of the probability of a bad outcome that each of
	// them had, given all that was before. If the probability is always the same, it is that. If it drifts, Lower and Upper are
	// about the mean so far, and not about the present. If few users send most requests, they are about the requests of these
	// users: the users that a greater weight adds can be others. And if bad outcomes take longer than good ones, they are missing
	// at first.
	Lower float64 `json:"lower"`
	Upper float64 `json:"upper"`
}

// String returns the rate as "rate 5 % (2.4 to 9.5 %)".
func (r Rate) String() string {
	return fmt.Sprintf("rate %.3g %% (%.3g to %.3g %%)", 100*r.Estimate, 100*r.Lower, 100*r.Upper)
}

// rate returns the rate of the canary.
func (l *ledger) rate(alpha float64) Rate {
	bad, least, most := l.failures()
	if least == 0 {
		return Rate{Upper: 1}
	}
	r := Rate{Estimate: float64(bad) / float64(least)}
	r.Lower, r.Upper = rateOf(float64(bad), float64(least), float64(most), alpha)
	return r
}

// failures returns the number of bad outcomes of the canary, and the least and the greatest number of requests that can belong
// to them. The number of requests is read before and after that of bad outcomes. A request that was bad while it was running is
// among those that have ended by now, or is not.
func (l *ledger) failures() (bad, least, most uint64) {
	for _, s := range l.senders {
		for _, at := range s.list() {
			if !randomised(at.weight) {
				continue
			}
			least += at.n[requestsOf(true)].Load()
			running := at.n[failedRunning].Load()
			bad += at.n[failedEnded].Load() + running
			most += at.n[requestsOf(true)].Load() + running
		}
	}
	return bad, max(least, bad), max(most, bad)
}

// NewRate returns the rate of bad outcomes among all, with an interval for each moment, as in Status.Rate, with alpha in place of
// Options.Alpha. It is for outcomes that a program counts by itself.
func NewRate(bad, all uint64, alpha float64) Rate {
	if all == 0 {
		return Rate{Upper: 1}
	}
	r := Rate{Estimate: float64(bad) / float64(all)}
	r.Lower, r.Upper = rateOf(float64(bad), float64(all), float64(all), alpha)
	return r
}

// rateOf returns an interval for the rate, from the number of bad outcomes among at least and at most so many requests.
//
// If request i is bad with a probability of p(i), given all that was before, and s of n requests were bad, then for each number x
//
//	exp(x s) / product over i of (1 + p(i) (exp(x) - 1))
//
// is a martingale that begins at 1, however p(i) changes, and whatever it depends on. The logarithm is concave, so the product is
// at most (1 + p (exp(x) - 1))^n, where p is the mean of all p(i). So exp(x s) / (1 + p (exp(x) - 1))^n reaches 1/a at any time
// with a probability of at most a (inequality of Ville). Solved for p, an x above 0 gives a lower end, and one below 0 gives an
// upper end. Each x has an equal part of alpha. The best x depends on s: it is about sqrt(2 ln(1/a) / s), so powers of 2 are
// tried. The mean over all x, in place of the best x, would give a slightly narrower interval, but no formula. A beta-binomial
// mixture would suppose that all p(i) are equal.
//
// Source: Howard, Ramdas, McAuliffe and Sekhon, Time-uniform Chernoff bounds via nonnegative supermartingales, Probability
// Surveys 17, 2020, arXiv 1808.03204, theorem 1, for sums of Bernoulli variables.
func rateOf(bad, least, most, alpha float64) (lower, upper float64) {
	const first, last = -10, 3 // the powers of 2
	need := math.Log(2 * (last - first + 1) / alpha)
	upper = 1
	for power := first; power <= last; power++ {
		x := math.Ldexp(1, power)
		lower = max(lower, math.Expm1((x*bad-need)/most)/math.Expm1(x))
		upper = min(upper, math.Expm1((-x*bad-need)/least)/math.Expm1(-x))
	}
	return lower, upper
}
