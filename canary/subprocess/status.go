package subprocess

import "time"

// Status says what the process of a Handler does.
type Status struct {
	Name string `json:"name"`
	// PID is the process that gets the requests; 0 if there is none.
	PID int `json:"pid"`
	// Since is when the process was started, or has ended.
	Since time.Time `json:"since"`
	// InFlight is how many requests the process has not answered.
	InFlight int64 `json:"in_flight"`
	// Starts is how many processes have served.
	Starts uint64 `json:"starts"`
	// Failures is how often a process has ended by itself, was killed because of its silence, or could not be started again. Reason
	// is that of the last time.
	Failures uint64 `json:"failures"`
	Reason   string `json:"reason,omitempty"`
}
