package plan

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/midair-go/midair/upgrade"
)

// Answer is the answer of the admin socket of a service: about a request, and about the process.
type Answer struct {
	Committed     bool   // there was no error
	Error         string // "" if there was none
	Sentinels     []string
	PID           int // of an *upgrade.Error, like Phase and Reason
	Phase, Reason string

	Goroutines, FDs, Children int
	Status                    upgrade.Status
}

var sentinels = []error{upgrade.ErrInProgress, upgrade.ErrNotReady, upgrade.ErrAborted, upgrade.ErrSameBuild}

// NewAnswer returns the answer to a request with the result err.
func NewAnswer(err error, status upgrade.Status) Answer {
	a := Answer{Committed: err == nil, Status: status}
	if err == nil {
		return a
	}
	a.Error = err.Error()
	if e := (*upgrade.Error)(nil); errors.As(err, &e) {
		a.Phase, a.Reason, a.PID = string(e.Phase), e.Reason, e.PID
	}
	for _, s := range sentinels {
		if errors.Is(err, s) {
			a.Sentinels = append(a.Sentinels, s.Error())
		}
	}
	return a
}

// Is reports whether the error was the sentinel: ErrInProgress, ErrNotReady, ErrAborted or ErrSameBuild.
func (a Answer) Is(sentinel error) bool { return slices.Contains(a.Sentinels, sentinel.Error()) }

// AcceptedBy is the file in the directory of a service in which a process writes down from where connections were accepted.
func AcceptedBy(dir string, pid int) string {
	return filepath.Join(dir, "accepted", strconv.Itoa(pid))
}

// Assignment is an answer of /assigned: what upgrade.Assigned returns for the connection of the request.
type Assignment struct {
	Unit   string
	Weight float64
	OK     bool
}
