package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/midair-go/midair/internal/process"
)

// A generation as the one that is to be replaced: what callers and signals ask for, and how attempts end.

type op int

const (
	opUpgrade op = iota
	opCommit
	opAbort
)

type request struct {
	op    op
	mode  mode            // of an upgrade
	ctx   context.Context // of an upgrade: its values, such as a span
	cause error
	only  chan error // of an abort: the reply of the upgrade that is meant; nil: any
	reply chan error // buffered: gets one answer
}

// Upgrade replaces this process by a new one and returns when it is over: nil means that the new process serves and
// that the context of Run's serve has ended; an *Error, which also says why, that this one goes on with all of the
// traffic. If ctx ends before the commit, the upgrade is aborted. Refusals are ErrInProgress, ErrNotReady, ErrClosed and
// ErrNotSupported.
//
// A file that cannot be meant is refused before it is started, with an *Error that has no PID: one that is built for
// another platform, that uses neither this package nor tableflip, that uses tableflip only (see Options.AllowPlain), that is a
// script or otherwise not known to be a build with this package (see Options.AllowWrapper), that is another program than this
// one by its build information, or (ErrSameBuild) the build that runs already.
func (u *Upgrader) Upgrade(ctx context.Context) error { return u.replace(ctx, modeUpgrade) }

// Restart is Upgrade that also starts the same build again, or another program, as SIGHUP does for the same build: what
// is read at the start is read anew.
func (u *Upgrader) Restart(ctx context.Context) error { return u.replace(ctx, modeRestart) }

// Rehearse tries an upgrade without making it: the new process is started, restores state, runs its checks and
// Options.Smoke, and is sent away again. No user reaches it, and nothing that it does to its own state stays. It returns
// nil if everything went well, and otherwise what Upgrade would have returned. It may rehearse the same build.
func (u *Upgrader) Rehearse(ctx context.Context) error { return u.replace(ctx, modeRehearsal) }

// Rollback replaces this process by the last build that was committed before and is another one, with the arguments that
// it had then, and returns when that is over, as [Upgrader.Upgrade] does. The build is held by a descriptor, so it does not matter whether
// its file was replaced or deleted. It goes the way of an upgrade, checks included, but without Options.Verify, Smoke,
// Bake and Soak: it was good before, and what is bad is here. What is rolled back is the build; kept values stay as they
// are now, and a value that the older build cannot read fails its checks. A rollback may be rolled back.
//
// ErrNotReady: there is nothing to go back to, because this generation is the first, or the one before it did not use
// this package. ErrNotSupported: not on this platform; it needs Linux. The others are those of Upgrade.
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
	if err := u.ask(request{op: opUpgrade, mode: m, ctx: ctx, reply: reply}); err != nil {
		return err
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		// The refusals of an abort do not matter: the upgrade is over or cannot be taken back any more.
		_ = u.ask(request{op: opAbort, cause: context.Cause(ctx), only: reply, reply: make(chan error, 1)})
		return <-reply
	}
}

// Commit ends the bake and the soak of the upgrade that is under way, as if the judge had agreed and the time were over.
// It does not wait for the commit itself. ErrNotReady: there is no upgrade that could be committed, because its candidate
// is not prepared yet or is being taken back.
func (u *Upgrader) Commit() error { return u.askWait(request{op: opCommit}) }

// Abort takes back the upgrade that is under way. It does not wait until the candidate has gone. ErrNotReady: there is
// none; ErrClosed: it is committed already.
func (u *Upgrader) Abort(reason string) error {
	return u.askWait(request{op: opAbort, cause: errors.New(reason)})
}

func (u *Upgrader) askWait(r request) error {
	r.reply = make(chan error, 1)
	if err := u.ask(r); err != nil {
		return err
	}
	return <-r.reply
}

// ask hands a request to the goroutine that owns the upgrade. It will be answered.
func (u *Upgrader) ask(r request) error {
	select {
	case <-u.running:
	case <-u.ended:
		return ErrClosed
	default:
		return fmt.Errorf("%w: Run has not been called", ErrNotReady)
	}
	select {
	case u.requests <- r:
		return nil
	case <-u.ended:
		return ErrClosed
	}
}

// outcome describes how the attempt ended.
func (a *attempt) outcome(err error) Outcome {
	out := Outcome{
		Kind: a.mode.String(), Started: a.started, Begun: a.begun, At: wallClock(), Committed: err == nil && a.mode != modeRehearsal,
		From: a.u.opts.Version, FromPID: os.Getpid(), Version: a.cand.version, Generation: a.cand.generation, PID: a.cand.pid,
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		out.Phase, out.Reason = e.Phase, e.Reason
	}
	return out
}
