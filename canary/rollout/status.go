package rollout

import (
	"fmt"
	"time"

	"github.com/midair-go/midair/canary/judge"
)

// Status says where a rollout is, and why.
type Status struct {
	// Name and Salt are those of the options.
	Name string `json:"name"`
	Salt string `json:"salt"`
	// State is the state, and Reason is why the state is what it is.
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Step is the number of the step, from 1; 0 before the first one. Steps is the plan.
	Step  int   `json:"step"`
	Steps Steps `json:"steps"`
	// Weight is the share of the canary.
	Weight float64 `json:"weight"`
	// Waits is what the end of the step waits for. It is empty unless the state is Ramping.
	Waits string `json:"waits,omitempty"`
	// Leads is true if this process decides: if Run runs, and no other process decides.
	Leads bool `json:"leads"`
	// Judge has the evidence, that of all processes as far as this process knows it.
	Judge judge.Status `json:"judge"`
	// Opinion is the last Opinion of the external judge; nil if it was the zero Opinion, and if there was none.
	Opinion *Opinion `json:"opinion,omitempty"`
	// Uses are the outcomes that Record has counted, by name.
	Uses []Use `json:"uses,omitempty"`
	// SetWeight is the error of the last call of Options.SetWeight; empty if there was none.
	SetWeight string `json:"set_weight,omitempty"`
	// Decisions are the last decisions, at most 50, the oldest first.
	Decisions []Decision `json:"decisions"`
}

// An Opinion is what an external judge says. The zero value lets the rollout go on. An Opinion counts until the next Opinion, also
// after another process has taken over. If the program of that process has no Options.Opinion, the Opinion ends when that process
// decides, as nobody could take it back: a decision says so, the canary gets the weight of the step, and the step lasts its whole time
// again.
type Opinion struct {
	// Hold holds the rollout: no step ends.
	Hold bool
	// Most is the greatest weight that the canary may have now, from 0 to 1. 0: the weight of the step.
	Most float64
	// RollBack takes the canary back. The state becomes Aborted, and Resume begins again with the first step.
	RollBack bool
	// Reason is for people, and is cut at 512 bytes.
	Reason string
}

// A Decision is a change of the state, of the step or of the weight of a rollout.
type Decision struct {
	At     time.Time `json:"at"`
	State  State     `json:"state"`
	Step   int       `json:"step"` // from 1; 0 before the first step
	Weight float64   `json:"weight"`
	Reason string    `json:"reason"`
}

// notExcluded says what could have been found by now, and what could not.
func notExcluded(s judge.Status) string {
	for _, t := range s.Tests {
		if t.DetectableRate > 0 {
			return fmt.Sprintf("a canary with %.3g %% bad outcomes would have been found by now, a better one might not", 100*t.DetectableRate)
		}
	}
	return "nothing is excluded, as there were too few requests"
}
