package upgrade

import (
	"sync"
	"time"
)

// Status describes a generation for operators and programs.
type Status struct {
	// State is starting, candidate, serving, draining (another generation serves), stopping, aborted, closed or orphan. An
	// orphan is a candidate whose old process has died before the commit. The supervisor starts the last committed build again,
	// and the orphan serves until that build serves.
	State string `json:"state"`
	// Generation is the number of this process in the chain of upgrades; the first process has number 1.
	Generation int       `json:"generation"`
	Version    string    `json:"version"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	// Supervisor is "alive" or "dead" in a process that a supervisor (see [Supervise]) has started; otherwise it is empty.
	// After the death of the supervisor, upgrades still work, but no process starts the service again after a crash.
	Supervisor string `json:"supervisor,omitempty"`
	// Uncommitted means that this process serves although its upgrade was not committed: the old process died before the
	// commit. If the process is an orphan, it serves only until the committed build serves again. Otherwise Uncommitted stays
	// true until the next upgrade.
	Uncommitted bool `json:"uncommitted,omitempty"`
	// Unwritten has the errors of the files that cannot be written now: the pid file, the outcome, or both. The process serves
	// without these files, and tries again every second.
	Unwritten []string `json:"unwritten,omitempty"`
	// Candidate is the new process of the upgrade that is under way; nil if no upgrade is under way.
	Candidate *Process `json:"candidate,omitempty"`
	// Draining has the older generations that have not ended yet, the oldest first.
	Draining []Process `json:"draining,omitempty"`
	// Previous is the build that Rollback would start; nil if no such build is known.
	Previous *Process `json:"previous,omitempty"`
	// Last is the outcome of the last upgrade that this process has tried. If there is none yet, and the supervisor has started
	// this process after a crash, Last describes that start. In any other process without an upgrade, Last is nil.
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

// setServing sets the state to serving, and returns true. If this generation already drains, stops or has ended, setServing
// returns false.
func (s *shown) setServing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.status.State {
	case "starting", "candidate", "orphan":
		s.status.State = "serving"
		return true
	}
	return false
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
