package judge

import (
	"math"
	"slices"
)

// labels are the events of one test at one weight, by the side of their requests. The numbers are whole, except in detectable.
type labels struct {
	weight         float64
	canary, stable float64
}

// maxFactors is the number of factors that a test may have.
const maxFactors = 9

// A factor on the relative risk r0 of the null hypothesis makes an alternative.
type factor struct{ m, log float64 }

// rises and falls are the alternatives of a test. Each alternative has the same prior. Small factors find small differences after
// many events. With the largest factor, a canary that always fails is found at its second event.
var (
	rises = factorsOf(1.25, 1.5, 2, 3, 5, 10, 30, 100, 1e6)
	falls = inverse(1.25, 1.5, 2, 3, 5, 10, 30, 100, 1e6)
)

func factorsOf(ms ...float64) (all []factor) {
	for _, m := range ms {
		all = append(all, factor{m: m, log: math.Log(m)})
	}
	return all
}

func inverse(ms ...float64) (all []factor) {
	for _, m := range ms {
		all = append(all, factor{m: 1 / m, log: -math.Log(m)})
	}
	return all
}

// logE returns the logarithm of the evidence against a relative risk of r0, in favor of the alternatives.
//
// An event with known assignment probability w is on the canary with probability
//
//	theta(r, w) = w r / (w r + 1 - w)
//
// if the canary has r times as many events for a request as stable. The rate of events, the traffic and their changes over time
// cancel out. A factor m multiplies the evidence by theta(m r0, w) / theta(r0, w) for an event of the canary, and by
// (1 - theta(m r0, w)) / (1 - theta(r0, w)) for an event of stable. Both are functions of
// d = ln((1 - w + w m r0) / (1 - w + w r0)): their logarithms are ln m - d, and -d. The evidence is the mean over the factors.
//
// If all factors are above 1, every r <= r0 makes the evidence a supermartingale which begins at 1, because the ratio of
// likelihoods is monotone. So the evidence reaches 1/alpha with a probability of at most alpha, however often it is looked
// at, and however the weight changes (inequality of Ville). If all factors are below 1, the same holds for every r >= r0.
//
// The claim is about events in an order in which each has its weight before its side is known. If the first event of a unit is
// replaced by an event of an earlier request that comes later, maybe at another weight, the evidence is that of another order,
// and can go up or down without a new event. At each moment the evidence is that of the units which are known then, so a
// Regression is one of the orders in which reports came, and not of the order of the requests only. If Options.Settle is at
// least the longest timeout of a request, no event that has counted is replaced. Without Settle, the simulations are the only
// check.
//
// Source: Lindon and Malek, Anytime-Valid Inference for Multinomial Count Data, NeurIPS 2022, arXiv 2011.03567, sections 3 and 4.
func logE(at []labels, r0 float64, factors []factor) float64 {
	if canary, stable := total(at); canary+stable == 0 {
		return 0
	}
	var room [maxFactors]float64
	logs := room[:len(factors)]
	for i, f := range factors {
		for _, l := range at {
			if n := l.canary + l.stable; n > 0 {
				logs[i] += l.canary*f.log - n*math.Log1p(l.weight*r0*(f.m-1)/(1-l.weight+l.weight*r0))
			}
		}
	}
	return logMean(logs)
}

// logMean returns the logarithm of the mean of exp(log) for all logs, without an overflow.
func logMean(logs []float64) float64 {
	greatest := slices.Max(logs)
	sum := 0.0
	for _, log := range logs {
		sum += math.Exp(log - greatest)
	}
	return greatest + math.Log(sum/float64(len(logs)))
}

// logAdd returns ln(exp(a) + exp(b)) without an overflow. Only a may be minus infinity.
func logAdd(a, b float64) float64 {
	high, low := max(a, b), min(a, b)
	return high + math.Log1p(math.Exp(low-high))
}

// total returns the number of events of each side.
func total(at []labels) (canary, stable float64) {
	for _, l := range at {
		canary, stable = canary+l.canary, stable+l.stable
	}
	return canary, stable
}
