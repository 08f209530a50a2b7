// Package judge compares the outcomes of the requests of the canary with those of stable. The caller may ask for a verdict after
// each request: a canary that is no worse than stable is judged a regression with a probability of at most 1 % in the whole
// rollout.
//
//	j, err := judge.New(salt, judge.Options{Settle: 30 * time.Second})
//	…
//	j.Observe(judge.Outcome{
//		Unit: key, Weight: weight, Canary: true, // how the request was routed
//		Result: judge.Bad, Began: began, Took: took, // how the request ended
//	})
//	…
//	if j.Settle(now) && j.Verdict() == judge.Regression { // each second
//		kill.Latch("worse than before")
//	}
//
// The package has no clock, no goroutine and no network. The caller passes times, and acts on the verdict.
//
// # How it works
//
// An event is a bad outcome, a panic, or a request that was not answered well within a threshold of the latency. If the canary is
// no worse than stable, an event is on the canary with the probability of the weight, because the side was drawn with this
// probability. The frequency of events does not matter, nor do changes of the traffic and of the weight. So only events are
// evidence, and a good outcome only counts in the numbers of requests.
//
//	labels.go     the evidence of the events of one kind
//	risk.go       the relative risk, its interval, and what could have been detected
//	rate.go       the share of bad outcomes of the canary alone, and its interval
//	verdict.go    all tests together
//	counts.go     the counters of a process, and tally.go: their sums, of which the evidence is a function
//	units.go      the first event of each user
//	latency.go    the thresholds
//	settle.go     events that wait until both sides have had the same time
//	ledger.go     the counts of all processes, and how they are joined
//	handover.go   the state and the deltas, with state.go: their layout, and delta.go: the units that a delta has
//
// # What is evidence
//
// Requests that the weight has routed, at a weight above 0 and below 1. Do not pass others to Observe: requests with a forced
// side, shadow requests, requests for which there was no room on their side, and requests that stable has answered again
// after the canary (the outcome of the canary counts). Count these with LeaveOut. If requests are routed by a key, pass the
// key as Unit, because each user counts once for each kind of event. A retry by a client is a request of the same unit.
//
// # Without a Pass
//
// A canary without bad outcomes gets no Pass, nor does one with requests that are routed by a key. BadRate has the share of bad
// outcomes of the canary alone, for a limit that does not depend on stable: a step can go on when the share is known to be below
// the limit, and a guard can roll back when it is known to be above. At the default Alpha, a canary without bad outcomes is known
// to have less than 1 % of them after about 800 requests, and one with 0.1 % after about 1,150.
//
// # Several processes
//
// The judge runs in the process in which stable runs. If the canary is another process, both have an Analysis with the same salt:
//
//	state     MarshalBinary of the old process, UnmarshalBinary of the new one, before the new process gets requests, and once
//	          more when the new process takes over; the same in the other direction when the old process takes over again
//	deltas    Delta of each process, Ingest of the other one, each second: the counters go to the judge, and the thresholds of the
//	          latency come from the judge, as only the judge has requests of stable
//
// # Goroutines
//
// All methods may be called from any number of goroutines. Observe takes no lock for a good outcome, nor does Assigned for a
// request without a unit or of a unit that was assigned before. Verdict, Status, Delta, Settle, UnmarshalBinary and Ingest take a
// lock for microseconds, longer if there are many units, and so does MarshalBinary while it copies the evidence. The package
// starts no goroutine.
package judge
