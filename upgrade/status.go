package upgrade

import (
	"time"

	"github.com/midair-go/midair/upgrade/internal/supervisor"
)

// Status is what can be seen of a generation from outside.
type Status struct {
	// State is starting, candidate, serving, draining (another generation serves), stopping, aborted or closed; orphan is a
	// candidate whose old process has died before the commit, and that serves until the supervisor has started the build
	// that was committed.
	State string `json:"state"`
	// Generation counts the processes of the chain from 1.
	Generation int       `json:"generation"`
	Version    string    `json:"version"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	// Supervisor is alive or dead, for a process that [Supervise] has started; empty without it. After the death of the
	// supervisor nobody starts the service again, and upgrades go on.
	Supervisor string `json:"supervisor,omitempty"`
	// Uncommitted: this process serves although its upgrade was not committed, because the old process died before. That
	// ends with the next upgrade, or, under the supervisor, when the build that was committed serves.
	Uncommitted bool `json:"uncommitted,omitempty"`
	// Unwritten says which files cannot be written now, and why: the pid file, the outcome. The process serves without them,
	// and tries again every second.
	Unwritten []string `json:"unwritten,omitempty"`
	// Candidate is the upgrade that is under way; nil if there is none.
	Candidate *Process `json:"candidate,omitempty"`
	// Draining are the older generations that have not ended yet, the oldest first.
	Draining []Process `json:"draining,omitempty"`
	// Previous is the build that Rollback would start; nil if there is none.
	Previous *Process `json:"previous,omitempty"`
	// Last is how the last upgrade that this process tried has ended; nil if there was none.
	Last *Outcome `json:"last,omitempty"`
}

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

// Outcome is how an upgrade ended. Phase and Reason are empty if it did what it was asked for. A candidate that serves without
// the supervisor although the old process died before the commit gives that as the reason.
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

// wallClock tells the time to people. Nothing is decided by it, and tests set it wrong.
var wallClock = time.Now

// crash reports whether it is a start after a crash.
func (o Outcome) crash() bool {
	return o.Kind == supervisor.KindCrash || o.Kind == supervisor.KindFallback
}

// Status returns how things stand. It never waits.
func (u *Upgrader) Status() Status {
	u.mu.Lock()
	st := u.state
	u.mu.Unlock()
	st.Draining, st.Previous = u.elders.status(), u.previous.status()
	st.Supervisor = u.manager.SupervisorState()
	st.Unwritten = u.unwritten.reasons()
	return st
}

func (u *Upgrader) setState(state string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.State = state
}

// setServing shows that this generation serves, unless it is on its way out already.
func (u *Upgrader) setServing() {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch u.state.State {
	case "starting", "candidate", "orphan":
		u.state.State = "serving"
	}
}

func (u *Upgrader) setUncommitted() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Uncommitted = true
}

func (u *Upgrader) setCandidate(c *Process) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Candidate = c
}

func (u *Upgrader) setLast(o Outcome) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Candidate = nil
	u.state.Last = &o
}
