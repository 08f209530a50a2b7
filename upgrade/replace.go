package upgrade

import (
	"context"
	"errors"
	"fmt"

	"github.com/midair-go/midair/internal/process"
)

// The methods of Upgrader for an operator, an admin handler or a deploy script.

// Upgrade replaces this process by a new process, and returns at the end of the upgrade. It returns nil if the new process
// serves; then the context of Run's serve has ended. It returns an *Error, with the phase and the reason, if the upgrade has
// failed and this process goes on serving all of the traffic. If ctx ends before the commit, the upgrade is aborted. Upgrade
// returns ErrInProgress, ErrNotReady, ErrClosed or ErrNotSupported if no upgrade can begin.
//
// Upgrade does not start certain files, and returns an *Error without a PID: a file for another platform; a program that uses
// neither this package nor tableflip; a program that uses tableflip only (see Options.AllowPlain); a script or another file
// that is not known to be a build with this package (see Options.AllowWrapper); another program than the running program, by
// the build information; and the build that already runs (ErrSameBuild).
func (u *Upgrader) Upgrade(ctx context.Context) error { return u.replace(ctx, modeUpgrade) }

// Restart does the same as Upgrade, but it also accepts another program, and the build that already runs. SIGHUP accepts the
// build that already runs, too. The new process reads its configuration again.
func (u *Upgrader) Restart(ctx context.Context) error { return u.replace(ctx, modeRestart) }

// Rehearse tries an upgrade without a commit: the new process is started, restores state and runs its checks, the old process
// calls Options.Smoke, and then the new process has to end. No user reaches the new process, and its changes of kept values do
// not come back. Rehearse returns nil if everything went well, or else the error that Upgrade would have returned. The file may
// be the build that already runs.
func (u *Upgrader) Rehearse(ctx context.Context) error { return u.replace(ctx, modeRehearsal) }

// Rollback replaces this process by the last committed build that differs from the present build, with the arguments of that
// time, and returns the same results as [Upgrader.Upgrade]. This process has the executable of the older build open, so the
// file at the old path may have been replaced or deleted. A rollback goes through the phases of an upgrade, checks included,
// but without Options.Verify, Smoke, Bake and Soak: the older build was good, and the present build is bad. Only the build is
// rolled back: kept values stay as they are now, and the rollback fails in the check phase if the older build cannot read a
// value. A rollback can itself be rolled back.
//
// Rollback returns ErrNotReady if no earlier build is known, because this generation is the first, or because the generation
// before did not use this package. It returns ErrNotSupported on platforms other than Linux. The other errors are those of
// Upgrade.
func (u *Upgrader) Rollback(ctx context.Context) error {
	if !process.CanRunDescriptor {
		return ErrNotSupported
	}
	return u.replace(ctx, modeRollback)
}

func (u *Upgrader) replace(ctx context.Context, m mode) error {
	if u.tf == nil {
		return ErrNotSupported
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrAborted, context.Cause(ctx))
	}
	reply := make(chan error, 1)
	if err := u.control.ask(request{op: opUpgrade, mode: m, ctx: ctx, reply: reply}); err != nil {
		return err
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		// If this request fails, the upgrade is over, or can no longer be aborted.
		_ = u.control.ask(request{op: opAbort, cause: context.Cause(ctx), only: reply, reply: make(chan error, 1)})
		return <-reply
	}
}

// Commit ends the bake and the soak of the present upgrade, as if Options.Bake had returned nil and Options.Soak had passed.
// Commit does not wait until the upgrade is committed. It returns ErrNotReady if no upgrade is under way, if the candidate has
// not reached the phase bake yet, or if the candidate is being taken back.
func (u *Upgrader) Commit() error { return u.control.askWait(request{op: opCommit}) }

// Abort aborts the present upgrade. Abort does not wait for the end of the candidate. It returns ErrNotReady if no upgrade is
// under way, and ErrClosed if the upgrade is already committed.
func (u *Upgrader) Abort(reason string) error {
	return u.control.askWait(request{op: opAbort, cause: errors.New(reason)})
}

// Status describes this generation, the candidate and the older generations. It never waits.
func (u *Upgrader) Status() Status {
	st := u.shown.get()
	st.Draining, st.Previous = u.history.elders.status(), u.history.previous.status()
	st.Supervisor = u.estate.manager.SupervisorState()
	st.Unwritten = u.estate.unwritten.reasons()
	return st
}
