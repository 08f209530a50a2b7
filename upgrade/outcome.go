package upgrade

import (
	"encoding/json"
	"time"

	"github.com/midair-go/midair/upgrade/internal/supervisor"
)

// Process describes another generation in a Status.
type Process struct {
	// Phase is the present phase of a candidate.
	Phase      Phase  `json:"phase,omitempty"`
	PID        int    `json:"pid,omitempty"`
	Version    string `json:"version,omitempty"`
	Generation int    `json:"generation,omitempty"`
	// Weight is the candidate's share of the connections, in a progressive upgrade.
	Weight float64 `json:"weight,omitempty"`
	// Hurried is true if the process was asked to close its idle connections, because too many generations drain.
	Hurried bool `json:"hurried,omitempty"`
}

// Outcome is how an upgrade has ended. Phase and Reason are empty after a success, with two exceptions. If the supervisor has
// started the process after a crash, Reason describes the crash. If a candidate has become the service because the old process
// died before the commit, Reason reports this death.
type Outcome struct {
	// Kind is upgrade, restart, rehearsal or rollback. It is crash or crash-rollback if the supervisor has started the process
	// after a crash.
	Kind string `json:"kind"`
	// Started and At are the times of day at which the upgrade began and ended. The machine's clock may be set to another time
	// in between. So compare outcomes by Begun: the time from the start of the machine to the begin of the upgrade, in
	// nanoseconds. The outcome with the greater Begun is the later outcome.
	Started time.Time     `json:"started"`
	At      time.Time     `json:"at"`
	Begun   time.Duration `json:"begun"`
	// Committed is true if the new process serves.
	Committed bool   `json:"committed"`
	Phase     Phase  `json:"phase,omitempty"`
	Reason    string `json:"reason,omitempty"`
	// From and FromPID are the version and the pid of the process that tried the upgrade. Version, Generation and PID describe
	// the new process, and are empty if they were not known at the end.
	From       string `json:"from,omitempty"`
	FromPID    int    `json:"from_pid,omitempty"`
	Version    string `json:"version,omitempty"`
	Generation int    `json:"generation,omitempty"`
	PID        int    `json:"pid,omitempty"`
}

// wallClock returns the time of day, which people read. No decision depends on the time of day. To show this, tests set
// wallClock to a wrong time.
var wallClock = time.Now

// crash reports whether the outcome describes a start by the supervisor after a crash.
func (o Outcome) crash() bool {
	return o.Kind == supervisor.KindCrash || o.Kind == supervisor.KindFallback
}

// readOutcome decodes the recorded text of an outcome. If err is not nil, readOutcome returns err.
func readOutcome(text []byte, err error) (out Outcome, _ error) {
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}
