package subprocess

import "time"

// Status describes a Handler and its process.
type Status struct {
	Name string `json:"name"`
	// PID is the process that gets the requests, or 0 while there is no process.
	PID int `json:"pid"`
	// Since is when the process was started, or, if PID is 0, when the last process has ended.
	Since time.Time `json:"since"`
	// InFlight is how many requests the process has not answered.
	InFlight int64 `json:"in_flight"`
	// Starts is how many processes have begun to serve.
	Starts uint64 `json:"starts"`
	// Failures is how often a process has ended by itself, was killed as it did not answer, or could not be started again. Reason is
	// the reason of the last failure.
	Failures uint64 `json:"failures"`
	Reason   string `json:"reason,omitempty"`
}
