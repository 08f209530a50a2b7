package upgrade

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

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

// Commit ends the bake and the soak of the present upgrade, as if the judge had agreed and the time were over. Commit does not wait
// for the commit itself. ErrNotReady: no upgrade can be committed, because the candidate is not prepared yet or is being taken
// back.
func (u *Upgrader) Commit() error { return u.askWait(request{op: opCommit}) }

// Abort takes back the present upgrade. Abort does not wait for the end of the candidate. ErrNotReady: there is no upgrade;
// ErrClosed: the upgrade is committed already.
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

// ask sends a request to the goroutine that owns the upgrade. Each request gets an answer.
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

// answer handles what a caller asked for.
func (r *runner) answer(q request) {
	switch {
	case r.role == roleLeaving:
		q.reply <- ErrClosed
	case r.role == roleCandidate:
		q.reply <- fmt.Errorf("%w: this process does not serve yet", ErrNotReady)
	case q.op == opUpgrade && r.attempt != nil:
		q.reply <- ErrInProgress
	case q.op == opUpgrade && q.mode == modeRollback && r.u.previous.status() == nil:
		q.reply <- fmt.Errorf("%w: no earlier build is known", ErrNotReady)
	case q.op == opUpgrade:
		r.begin(newAttempt(q.ctx, r.u, q.mode), q.reply)
	case r.attempt == nil || q.only != nil && q.only != r.waiter:
		q.reply <- fmt.Errorf("%w: no upgrade is in progress", ErrNotReady)
	case q.op == opCommit:
		q.reply <- r.commitNow()
	case r.attempt.tryAbort(q.cause, false):
		q.reply <- nil
	default:
		q.reply <- fmt.Errorf("%w: the upgrade is being committed", ErrClosed)
	}
}

func (r *runner) commitNow() error {
	if c := r.u.Status().Candidate; c == nil || c.Phase != PhaseBake && c.Phase != PhaseSoak && c.Phase != PhaseCommit {
		return fmt.Errorf("%w: the candidate is not prepared yet", ErrNotReady)
	}
	if err := context.Cause(r.attempt.ctx); err != nil {
		return fmt.Errorf("%w: the upgrade is being taken back: %w", ErrNotReady, err)
	}
	r.attempt.commitNow()
	return nil
}

func (r *runner) begin(a *attempt, waiter chan error) {
	r.u.listeners.UnlinkOnClose(false) // the new process is about to serve on the paths
	if r.unnamed == nil {              // else isNamed says it
		r.reloading(a)
	}
	r.attempt, r.waiter, a.writes, a.unnamed = a, waiter, r.retries.trying, r.unnamed
	go a.run() // ends with a value on a.done, which the loop waits for
}

// reloading tells the service manager that an attempt to replace this process has begun.
func (r *runner) reloading(a *attempt) {
	if r.role == roleMain && a.mode != modeRehearsal {
		r.extended = time.Now()
		r.u.manager.Reloading(fmt.Sprintf("%s: %s", r.u.statusText(), a.mode))
	}
}

// attempted handles the end of an attempt.
func (r *runner) attempted(err error) {
	a := r.attempt
	r.attempt = nil
	out := a.outcome(err)
	r.u.setLast(out)
	r.u.recordOutcome(out)
	waiter := r.waiter
	r.waiter = nil
	switch {
	case err != nil:
		r.tellEnd(out)
		r.u.log.Error("upgrade: failed, this process serves on", "phase", out.Phase, "reason", out.Reason, "candidate", out.PID, "version", out.Version)
		r.failed(a)
	case a.mode == modeRehearsal:
		r.u.log.Info("upgrade: rehearsed, this process serves on", "version", out.Version)
		r.failed(a)
	default:
		r.u.log.Info("upgrade: committed", "candidate", out.PID, "version", out.Version, "generation", out.Generation)
		r.handedOver(a)
	}
	if waiter != nil {
		waiter <- err // last: it means that everything is as Upgrade promises
	}
}

// failed goes on serving.
func (r *runner) failed(a *attempt) {
	r.u.listeners.UnlinkOnClose(a.mode != modeRevive)
	if r.ending != nil {
		cause := r.ending
		r.ending = nil
		r.stop(cause)
		return
	}
	r.again = r.again || a.again
	r.upgradeAgain()
}

// handedOver leaves, and passes on what was asked of this process while it was too late for it.
func (r *runner) handedOver(a *attempt) {
	if r.ending != nil {
		a.child.Signal(syscall.SIGTERM)
	} else if r.again {
		a.child.Signal(syscall.SIGHUP)
	}
	r.plain, r.successor, r.handed, r.heir = false, a.child, time.Now(), a.child.link.Frames
	if m := a.peer.mover(a.child, a.shares.takes); m != nil {
		r.listens = true
		r.u.elders.quit()
		r.u.setMover(m)
	}
	if r.role == roleMain {
		r.leave("draining", &ending{reason: "handed over", handover: true})
	}
	if !a.hello.Speaks { // one that speaks names itself: what this process says may come when a later generation serves
		r.u.manager.ReadyFor(a.child.PID, fmt.Sprintf("serving, generation %d", a.nextGeneration()))
	}
	r.u.manager.HandedOver()
}
