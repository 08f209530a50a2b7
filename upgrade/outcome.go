package upgrade

import (
	"encoding/json"
	"time"

	"github.com/midair-go/midair/upgrade/internal/supervisor"
)

// Process describes another generation.
type Process struct {
	// Phase is how far a candidate is.
	Phase      Phase  `json:"phase,omitempty"`
	PID        int    `json:"pid,omitempty"`
	Version    string `json:"version,omitempty"`
	Generation int    `json:"generation,omitempty"`
	// Weight is the candidate's share of the connections, in a progressive upgrade.
	Weight float64 `json:"weight,omitempty"`
	// Hurried: it was told to close what is idle, because there are too many.
	Hurried bool `json:"hurried,omitempty"`
}

// Outcome is how an upgrade ended. Phase and Reason are empty after a success, with one exception: a candidate may serve without
// the supervisor because the old process died before the commit. Then that is the reason.
type Outcome struct {
	// Kind is upgrade, restart, rehearsal or rollback; crash or crash-rollback if the supervisor has started the process.
	Kind string `json:"kind"`
	// Started and At are its begin and its end, for people: a clock may be set meanwhile. Begun is the begin by a clock that
	// nobody sets, the time since the machine was started, in nanoseconds: it tells which of two outcomes is the later one.
	Started time.Time     `json:"started"`
	At      time.Time     `json:"at"`
	Begun   time.Duration `json:"begun"`
	// Committed: the new process serves.
	Committed bool   `json:"committed"`
	Phase     Phase  `json:"phase,omitempty"`
	Reason    string `json:"reason,omitempty"`
	// From and FromPID are the process that tried it; Version, Generation and PID the new one, as far as it got.
	From       string `json:"from,omitempty"`
	FromPID    int    `json:"from_pid,omitempty"`
	Version    string `json:"version,omitempty"`
	Generation int    `json:"generation,omitempty"`
	PID        int    `json:"pid,omitempty"`
}

// wallClock is the time for people. The code decides nothing by this clock, and tests set it wrong.
var wallClock = time.Now

// crash reports whether the outcome is a start after a crash.
func (o Outcome) crash() bool {
	return o.Kind == supervisor.KindCrash || o.Kind == supervisor.KindFallback
}

// readOutcome reads a recorded text.
func readOutcome(text []byte, err error) (out Outcome, _ error) {
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}
