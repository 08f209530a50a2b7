package upgrade

import (
	"context"
	"errors"
	"fmt"

	"github.com/midair-go/midair/internal/process"
)

// The methods of Upgrader for those who replace the process.

// Upgrade replaces this process by a new process, and returns at the end of the upgrade. A nil error means: the new process serves,
// and the context of Run's serve has ended. An *Error means: this process goes on with all of the traffic, and the error has the
// phase and the reason. If ctx ends before the commit, the upgrade is aborted. Refusals are ErrInProgress, ErrNotReady, ErrClosed
// and ErrNotSupported.
//
// Some files are refused before their start, with an *Error without a PID: a file for another platform; a program with neither this
// package nor tableflip; a program with tableflip only (see Options.AllowPlain); a script or another file that is not known to be a
// build with this package (see Options.AllowWrapper); another program than this one, by the build information; and the build that
// runs already (ErrSameBuild).
func (u *Upgrader) Upgrade(ctx context.Context) error { return u.replace(ctx, modeUpgrade) }

// Restart is Upgrade that also starts the same build again, as SIGHUP does, or another program. The new process reads its
// configuration anew.
func (u *Upgrader) Restart(ctx context.Context) error { return u.replace(ctx, modeRestart) }

// Rehearse tries an upgrade without a commit: the new process is started, restores state, runs its checks and Options.Smoke, and
// has to end. No user reaches the new process, and no change of its state stays. Rehearse returns nil if everything went well, and
// otherwise the error that Upgrade would have returned. The build may be the same.
func (u *Upgrader) Rehearse(ctx context.Context) error { return u.replace(ctx, modeRehearsal) }

// Rollback replaces this process by the last committed build that is another build than this one, with the arguments of that time,
// and returns like [Upgrader.Upgrade]. The build is held by a descriptor, so its file may have been replaced or deleted. A rollback
// takes the way of an upgrade, checks included, but without Options.Verify, Smoke, Bake and Soak: the old build was good, and the
// present build is bad. Only the build is rolled back: kept values stay as they are now, and a value that the older build cannot
// read fails its checks. A rollback may be rolled back.
//
// ErrNotReady: no earlier build is known, because this generation is the first, or the generation before did not use this package.
// ErrNotSupported: not on this platform; Rollback needs Linux. The other errors are those of Upgrade.
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
		// The refusals of an abort do not matter: the upgrade is over or cannot be taken back any more.
		_ = u.control.ask(request{op: opAbort, cause: context.Cause(ctx), only: reply, reply: make(chan error, 1)})
		return <-reply
	}
}

// Commit ends the bake and the soak of the present upgrade, as if the judge had agreed and the time were over. Commit does not wait
// for the commit itself. ErrNotReady: no upgrade can be committed, because the candidate is not prepared yet or is being taken
// back.
func (u *Upgrader) Commit() error { return u.control.askWait(request{op: opCommit}) }

// Abort takes back the present upgrade. Abort does not wait for the end of the candidate. ErrNotReady: there is no upgrade;
// ErrClosed: the upgrade is committed already.
func (u *Upgrader) Abort(reason string) error {
	return u.control.askWait(request{op: opAbort, cause: errors.New(reason)})
}

// Status returns how things stand. It never waits.
func (u *Upgrader) Status() Status {
	st := u.shown.get()
	st.Draining, st.Previous = u.history.elders.status(), u.history.previous.status()
	st.Supervisor = u.estate.manager.SupervisorState()
	st.Unwritten = u.estate.unwritten.reasons()
	return st
}
