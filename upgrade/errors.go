package upgrade

import (
	"errors"
	"fmt"
)

// The errors that a caller may have to distinguish. Returned errors wrap these errors, so use errors.Is.
var (
	// ErrInProgress means that an upgrade is under way: ask again after the end of that upgrade.
	ErrInProgress = errors.New("upgrade: an upgrade is already in progress")
	// ErrNotReady means that the process cannot yet do what was asked. For example, the process does not serve yet, or no
	// upgrade is under way that could be committed or aborted.
	ErrNotReady = errors.New("upgrade: not ready")
	// ErrClosed means that it is too late for what was asked. For example, the process is stopping, or another generation has
	// taken over.
	ErrClosed = errors.New("upgrade: closed")
	// ErrNotSupported means that the platform cannot hand listeners to another process, or cannot do what was asked.
	// errors.Is(err, [errors.ErrUnsupported]) holds too.
	ErrNotSupported error = notSupported{}
	// ErrUnsupervised is returned by Run after a plain stop if the supervisor (see [Supervise]) has died while the service ran:
	// the service has ended as it should, but after a crash no process would have started the service again.
	ErrUnsupervised = errors.New("upgrade: the service has ended as it should, and its supervisor had died before: nobody would have started it again")
	// ErrSameBuild means that the file to start is the build that already runs: perhaps the new file was not copied to its
	// place. Restart starts the same build nevertheless.
	ErrSameBuild = errors.New("upgrade: the new file is the build that is running")
	// ErrAborted means that the upgrade was aborted before its commit: by Abort, by the end of a context, or by a signal. If
	// the old process takes a candidate back, for any reason, Run of the candidate returns an error that wraps ErrAborted. If
	// the candidate itself has failed, the error of Run wraps the failure instead. In both cases main should end with a
	// non-zero status.
	ErrAborted = errors.New("upgrade: aborted")
	// ErrServeStuck is returned by Run if serve goes on long after the end of its context, see Options.StuckAfter. Main should
	// then end the process: Run has finished everything except serve.
	ErrServeStuck = errors.New("upgrade: serve ignores the end of its context")
)

// notSupported is the type of ErrNotSupported, for errors.Is with errors.ErrUnsupported.
type notSupported struct{}

func (notSupported) Error() string { return "upgrade: not supported here" }

func (notSupported) Unwrap() error { return errors.ErrUnsupported }

// unsupported adds ErrNotSupported to an error that is errors.ErrUnsupported, and returns every other error unchanged.
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
	// PhaseStart: the executable is examined and started, until the new process sends its hello message.
	PhaseStart Phase = "start"
	// PhaseCheck: the new process restores state, opens listeners and runs its checks, until the new process is prepared.
	PhaseCheck Phase = "check"
	// PhaseSmoke: Options.Smoke runs in the old process.
	PhaseSmoke Phase = "smoke"
	// PhaseBake: Options.Bake runs in the old process.
	PhaseBake Phase = "bake"
	// PhaseSoak: both processes accept connections for Options.Soak.
	PhaseSoak Phase = "soak"
	// PhaseCommit: the new process takes over, until it confirms that it serves.
	PhaseCommit Phase = "commit"
)

// Error describes a failed upgrade: the phase in which the upgrade ended, and the reason. The old process goes on serving all
// of the traffic, and may upgrade again at once.
type Error struct {
	// Phase is the step that did not succeed.
	Phase Phase
	// Reason is a text for a person: an exit status, the name of a failed check, or the first lines of a crash report.
	Reason string
	// PID is the process id of the candidate; 0 if no candidate was started.
	PID int
	// Err is the cause of the failure, for errors.Is and errors.As. It is nil in an Error that Request returns.
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
