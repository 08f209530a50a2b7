package upgrade

import (
	"time"
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
