package upgrade

import (
	"sync"
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

// shown is the part of Status that the generation and its attempts set.
type shown struct {
	mu     sync.Mutex
	status Status
}

func (s *shown) get() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *shown) setState(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.State = state
}

// setServing shows that this generation serves, unless it is on its way out already.
func (s *shown) setServing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.status.State {
	case "starting", "candidate", "orphan":
		s.status.State = "serving"
	}
}

func (s *shown) setUncommitted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Uncommitted = true
}

func (s *shown) setCandidate(c *Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Candidate = c
}

func (s *shown) setLast(o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Candidate = nil
	s.status.Last = &o
}
