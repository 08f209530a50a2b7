// Package judge finds out whether the canary is worse than stable, from the outcomes of the requests of both. It is right at any
// moment: the answer may be looked at after each request, and a canary that is no worse than stable is called a regression with
// a probability of at most 1 % in the whole rollout.
//
//	j, err := judge.New(salt, judge.Options{})
//	…
//	changed := j.Observe(judge.Outcome{
//		Unit: key, Weight: weight, Canary: true, // how the request was routed
//		Result: judge.Bad, Began: began, Took: took, // what has become of it
//	})
//	if changed && j.Verdict() == judge.Regression {
//		kill.Latch("worse than before")
//	}
//
// The package has no clock, no goroutine and no network. The caller passes times, and acts on the verdict.
//
// # How it works
//
// An event is a bad outcome, a panic, or a request that is slower than a threshold. If the canary is no worse than stable, an
// event is on the canary with the probability of the weight, because the side was drawn with this probability. It does not matter
// how frequent events are, or how the traffic and the weight change. So only events are evidence, and a good outcome only
// counts in the numbers of requests.
//
//	labels.go     the evidence of the events of one kind
//	risk.go       the relative risk, its interval, and what could have been detected
//	verdict.go    all tests together
//	counts.go     the counters, of which the evidence is a function
//	units.go      the first event of each user
//	latency.go    the thresholds
//	settle.go     events that wait until both sides have had the same time
//	state.go      the evidence that passes to another process
//
// # What is evidence
//
// Requests that the weight has routed, at a weight above 0 and below 1. Do not pass others to Observe: requests with a forced
// side, shadow requests, requests for which there was no room on their side, and requests that stable has answered again
// after the canary (the outcome of the canary counts). Count these with LeaveOut. If requests are routed by a key, pass the
// key as Unit, for each user counts once in a kind of events. A retry by a client is a request of the same unit.
//
// # Goroutines
//
// All methods may be called from any number of goroutines. Observe takes no lock and allocates nothing for a good outcome.
// Verdict, Status and Delta take a lock for some microseconds, longer if many units are known. The package starts no goroutine.
package judge
