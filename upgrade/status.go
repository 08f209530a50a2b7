package upgrade

import "time"

// Status is what can be seen of a generation from outside.
type Status struct {
	// State is starting, candidate, serving, draining (another generation serves), stopping, aborted or closed.
	State string `json:"state"`
	// Generation counts the processes of the chain from 1.
	Generation int       `json:"generation"`
	Version    string    `json:"version"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	// Candidate is the upgrade that is under way; nil if there is none.
	Candidate *CandidateStatus `json:"candidate,omitempty"`
	// Last is how the last upgrade that this process tried has ended; nil if there was none.
	Last *Outcome `json:"last,omitempty"`
}

// CandidateStatus describes an upgrade that is under way.
type CandidateStatus struct {
	Phase      Phase  `json:"phase"`
	PID        int    `json:"pid,omitempty"`
	Version    string `json:"version,omitempty"`
	Generation int    `json:"generation,omitempty"`
}

// Outcome is how an upgrade ended. Phase and Reason are empty for one that was committed.
type Outcome struct {
	At        time.Time `json:"at"`
	Committed bool      `json:"committed"`
	Phase     Phase     `json:"phase,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	PID       int       `json:"pid,omitempty"`
}

// Status returns how things stand. It never waits.
func (u *Upgrader) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

func (u *Upgrader) setState(state string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.State = state
}

func (u *Upgrader) setCandidate(c *CandidateStatus) {
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
