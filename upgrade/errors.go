package upgrade

import (
	"errors"
	"fmt"
)

// The refusals that a caller has to tell apart. They are wrapped, so use errors.Is.
var (
	// ErrInProgress means that an upgrade is already under way: ask again when it has ended.
	ErrInProgress = errors.New("upgrade: an upgrade is already in progress")
	// ErrNotReady means that the process cannot do it yet: it does not serve, it is itself a candidate, or there is
	// no upgrade under way that could be committed or aborted.
	ErrNotReady = errors.New("upgrade: not ready")
	// ErrClosed means that it cannot do it any more: it is stopping, or another generation has taken over.
	ErrClosed = errors.New("upgrade: closed")
	// ErrNotSupported means that the platform cannot hand listeners to another process, or cannot do what is asked. It is an
	// [errors.ErrUnsupported].
	ErrNotSupported error = notSupported{}
	// ErrUnsupervised is what Run returns after a plain stop if the supervisor (see [Supervise]) had died before: the service
	// has ended as it should, and had been without anybody to start it again.
	ErrUnsupervised = errors.New("upgrade: the service has ended as it should, and its supervisor had died before: nobody would have started it again")
	// ErrSameBuild means that the file to start is the build that runs already: was the new one copied to its place?
	// Restart starts it all the same.
	ErrSameBuild = errors.New("upgrade: the new file is the build that is running")
	// ErrAborted means that the upgrade was taken back before its commit: by Abort, by a context, by a signal. A
	// candidate that is told to go gets it from Run and should end with a non-zero status.
	ErrAborted = errors.New("upgrade: aborted")
	// ErrServeStuck is what Run returns if the function that it was given goes on after its context has ended, see
	// Options.StuckAfter. Main should end: the process is done in every other respect.
	ErrServeStuck = errors.New("upgrade: serve ignores the end of its context")
)

// notSupported is the type of ErrNotSupported, for errors.Is with errors.ErrUnsupported.
type notSupported struct{}

func (notSupported) Error() string { return "upgrade: not supported here" }

func (notSupported) Unwrap() error { return errors.ErrUnsupported }

// unsupported makes errors.ErrUnsupported of the parts of this package an ErrNotSupported, and leaves other errors alone.
func unsupported(err error) error {
	if errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, ErrNotSupported) {
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return err
}

// Phase names a step of an upgrade, for errors, logs, spans and metrics.
type Phase string

// The phases in their order.
const (
	// PhaseStart: the executable is looked up and started, until the new process says hello.
	PhaseStart Phase = "start"
	// PhaseCheck: the new process restores state, opens listeners and runs its checks, until it is prepared.
	PhaseCheck Phase = "check"
	// PhaseSmoke: Options.Smoke runs in the old process.
	PhaseSmoke Phase = "smoke"
	// PhaseBake: Options.Bake runs in the old process.
	PhaseBake Phase = "bake"
	// PhaseSoak: both processes accept connections.
	PhaseSoak Phase = "soak"
	// PhaseCommit: the new process takes over, until it says that it serves.
	PhaseCommit Phase = "commit"
)

// Error says in which phase an upgrade ended and why. The old process serves on, with all of the traffic, and may
// upgrade again at once.
type Error struct {
	// Phase is the step that did not succeed.
	Phase Phase
	// Reason tells why, in words for a person: an exit status, a failed check by name, a crash by its first lines.
	Reason string
	// PID is the process id of the candidate; 0 if none was started.
	PID int
	// Err is the cause where there is one in this process; may be nil.
	Err error
}

// Error names the phase and the reason.
func (e *Error) Error() string {
	switch {
	case e.Phase == "":
		return "upgrade: " + e.Reason
	case e.PID == 0:
		return fmt.Sprintf("upgrade: %s: %s", e.Phase, e.Reason)
	}
	return fmt.Sprintf("upgrade: %s: candidate pid %d: %s", e.Phase, e.PID, e.Reason)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
