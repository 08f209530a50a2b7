package upgrade

import (
	"context"
	"errors"
	"fmt"

	"github.com/midair-go/midair/internal/process"
)

// The methods of Upgrader for an operator, an admin handler or a deploy script.

// Upgrade replaces this process by a new process, and returns at the end of the upgrade. If the new process serves, Upgrade
// returns nil, and the context of Run's serve has ended. If the upgrade has failed, this process goes on serving all of the
// traffic, and Upgrade returns an *Error with the phase and the reason. If ctx ends before the commit, the upgrade is aborted.
// If no upgrade can begin, Upgrade returns ErrInProgress, ErrNotReady, ErrClosed or ErrNotSupported.
//
// Upgrade refuses some files before their start. In this case it returns an *Error without a PID. It refuses a file for another
// platform, and a program that uses neither this package nor tableflip. It refuses a program that uses tableflip only (see
// Options.AllowPlain). It refuses a script or another file that is not known to be a build with this package (see
// Options.AllowWrapper). It also refuses a file that contains another program than the running program, according to the build
// information, and the build that already runs (ErrSameBuild).
func (u *Upgrader) Upgrade(ctx context.Context) error { return u.replace(ctx, modeUpgrade) }

// Restart does the same as Upgrade, but it also accepts a file with another program, and the build that already runs. The new
// process reads its configuration again. An upgrade by SIGHUP accepts the build that already runs, too, but no other program.
func (u *Upgrader) Restart(ctx context.Context) error { return u.replace(ctx, modeRestart) }

// Rehearse tries an upgrade without a commit. The new process is started, restores state and runs its checks. Then the old
// process calls Options.Smoke, and the new process has to end. No user reaches the new process, and the old process does not
// take over changes that the new process has made to kept values. Rehearse returns nil if everything went well. Otherwise it
// returns the error that Upgrade would have returned. The file may be the build that already runs.
func (u *Upgrader) Rehearse(ctx context.Context) error { return u.replace(ctx, modeRehearsal) }

// Rollback replaces this process by a process of an earlier build: the last committed build that differs from the present
// build. The new process gets the arguments that the earlier build had. Rollback returns the same results as
// [Upgrader.Upgrade]. This process has the executable of the earlier build open, so the file at the old path may have been
// replaced or deleted. A rollback goes through the phases of an upgrade, checks included. But Options.Verify, Smoke, Bake and
// Soak are not used, because the earlier build was good, and the present build is bad. Only the build is rolled back: kept
// values stay as they are now. If the earlier build cannot read a kept value, the rollback fails in the check phase. A rollback
// can itself be rolled back.
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
		// An error is ignored: the upgrade is over, or can no longer be aborted.
		_ = u.control.ask(request{op: opAbort, cause: context.Cause(ctx), only: reply, reply: make(chan error, 1)})
		return <-reply
	}
}

// Commit ends the bake and the soak of the present upgrade, as if Options.Bake had returned nil and Options.Soak had passed.
// Commit does not wait until the upgrade is committed. It returns ErrNotReady if no upgrade is under way, if the candidate has
// not yet reached the phase bake, or if the candidate is being taken back.
func (u *Upgrader) Commit() error { return u.control.askWait(request{op: opCommit}) }

// Abort aborts the present upgrade. Abort does not wait for the end of the candidate. It returns ErrNotReady if no upgrade is
// under way. It returns ErrClosed if the commit message was already sent, or if this process no longer serves.
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
