package judge

import "time"

// A Result is how a request has ended.
type Result uint8

// The results. A panic is a bad outcome too, and so is a Result that does not exist.
const (
	Good Result = iota
	Bad
	Panicked
)

// An Outcome describes a request that has ended, or one that is still running.
type Outcome struct {
	// Unit is the key by which the request was routed. It is empty if the request was drawn on its own.
	Unit string
	// Weight is the weight of the canary by which this request was routed. At a weight of 0 or 1 there is no evidence. Each weight
	// has its own counters, so raise the weight in steps, and not with each request: after 64 weights, further ones are rounded
	// up. (See Status.Rounded.)
	Weight float64
	// Canary is the side that the request was routed to, also if stable has answered in the end.
	Canary bool
	// Result is good, bad, or a panic.
	Result Result
	// Began is when the request began, by a clock that is the same for all processes of a rollout: the time since the start of the
	// host, for example.
	Began time.Duration
	// Took is the duration of the request until now.
	Took time.Duration
	// Running is true if the request has not ended. Report a running request after each of the Thresholds, or at least after the
	// longest one: without such reports a canary that hangs has no events.
	Running bool
	// Reported is the Took of the last report of the same request while the request was running. If a running request was reported
	// as Bad or Panicked, report Good when the request ends, so that the failure counts once.
	Reported time.Duration
}

// kinds returns the set of the kinds of events that an outcome has, for the thresholds of the latency.
func (o *Outcome) kinds(c *cuts) (set uint) {
	switch o.Result {
	case Good:
	case Panicked:
		set = 1<<badKind | 1<<panicKind
	default:
		set = 1 << badKind
	}
	return set | c.exceeded(o)
}
