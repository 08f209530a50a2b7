package judge

import (
	"cmp"
	"fmt"
	"time"
)

// Options are the options of New. The options of a rollout are those with which its evidence has begun: they pass with the state,
// and a process that takes over the state takes over the options. If events of the past were weighed by new options, these could
// have been chosen after the events. A rollout with a new salt has new options.
type Options struct {
	// Alpha is the probability, over the whole rollout and at all times together, with which a canary that is no worse than
	// stable is judged a regression. Default: 0.01. From 1e-12 to 0.5.
	Alpha float64 `json:"alpha"`
	// Tolerance is the relative risk of a bad outcome up to which the canary is no worse than stable. Default: 1.25. At least 1.
	Tolerance float64 `json:"tolerance"`
	// SlowTolerance is the same for the share of requests that are not answered well within a threshold. Default: 1.1. At least 1.
	SlowTolerance float64 `json:"slow_tolerance"`
	// Slow is an absolute threshold of the latency, beside the median, the 90 % and the 99 % quantile of the first 1,000 good
	// requests of stable. Default: none.
	Slow time.Duration `json:"slow,omitempty"`
	// Fast is how long a request may take that is never slow: a threshold that stable gives is Fast at least. Where stable needs
	// microseconds, a difference of some microseconds is found with certainty, and matters to nobody. Slow may be less. Default:
	// 5 ms. Negative: none.
	Fast time.Duration `json:"fast"`
	// Settle is the time after the beginning of a request at which its events are counted, by a call of Settle. Choose the longest
	// timeout of a request. With the default of 0, events are counted at once: if the sides fail after different times, a
	// Regression can be wrong, and there is no Pass.
	Settle time.Duration `json:"settle,omitempty"`
}

func defaults(o *Options) {
	o.Alpha = cmp.Or(o.Alpha, .01)
	o.Tolerance = cmp.Or(o.Tolerance, 1.25)
	o.SlowTolerance = cmp.Or(o.SlowTolerance, 1.1)
	o.Fast = cmp.Or(o.Fast, 5*time.Millisecond)
}

func (o Options) check() error {
	switch {
	case !(o.Alpha >= 1e-12 && o.Alpha <= .5):
		return fmt.Errorf("judge: Alpha is %v: choose a probability from 1e-12 to 0.5, such as 0.01", o.Alpha)
	case !(o.Tolerance >= 1 && o.Tolerance <= 1000):
		return fmt.Errorf("judge: Tolerance is %v: choose a relative risk from 1 to 1000, such as 1.25", o.Tolerance)
	case !(o.SlowTolerance >= 1 && o.SlowTolerance <= 1000):
		return fmt.Errorf("judge: SlowTolerance is %v: choose a relative risk from 1 to 1000, such as 1.1", o.SlowTolerance)
	case o.Slow < 0:
		return fmt.Errorf("judge: Slow is %v: choose a duration above 0, or 0 for none", o.Slow)
	case o.Settle < 0:
		return fmt.Errorf("judge: Settle is %v: choose the longest timeout of a request, or 0", o.Settle)
	}
	return nil
}
