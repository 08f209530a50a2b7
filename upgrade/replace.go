package upgrade

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
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
	ctx   context.Context // of an upgrade: its values, such as a span
	cause error
	only  chan error // of an abort: the reply of the upgrade that is meant; nil: any
	reply chan error // buffered: gets one answer
}

// Upgrade replaces this process by a new one and returns when it is over: nil means that the new process serves and
// that the context of Run's serve has ended; an *Error, which also says why, that this one goes on with all of the
// traffic. If ctx ends before the commit, the upgrade is aborted. Refusals are ErrInProgress, ErrNotReady, ErrClosed and
// ErrNotSupported.
func (u *Upgrader) Upgrade(ctx context.Context) error {
	if u.tf == nil {
		return ErrNotSupported
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrAborted, context.Cause(ctx))
	}
	reply := make(chan error, 1)
	if err := u.ask(request{op: opUpgrade, ctx: ctx, reply: reply}); err != nil {
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

// answer handles what a caller asked for.
func (r *runner) answer(q request) {
	switch {
	case r.role == roleLeaving:
		q.reply <- ErrClosed
	case r.role == roleCandidate:
		q.reply <- fmt.Errorf("%w: this process does not serve yet", ErrNotReady)
	case q.op == opUpgrade && r.attempt != nil:
		q.reply <- ErrInProgress
	case q.op == opUpgrade:
		r.begin(newAttempt(q.ctx, r.u, false), q.reply)
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
	if c := r.u.Status().Candidate; c == nil || c.Phase == PhaseStart || c.Phase == PhaseCheck {
		return fmt.Errorf("%w: the candidate is not prepared yet", ErrNotReady)
	}
	if err := context.Cause(r.attempt.ctx); err != nil {
		return fmt.Errorf("%w: the upgrade is being taken back: %w", ErrNotReady, err)
	}
	r.attempt.commitNow()
	return nil
}

func (r *runner) begin(a *attempt, waiter chan error) {
	r.u.listeners.set(func(s *listeners) { s.unlink = false }) // the new process is about to serve on the paths
	r.attempt, r.waiter = a, waiter
	go a.run() // ends with a value on a.done, which the loop waits for
}

// upgradeAgain does what a SIGHUP asked for, now or when it is possible.
func (r *runner) upgradeAgain() {
	switch {
	case !r.again || r.role == roleCandidate:
	case r.role == roleLeaving:
		r.again = false
		r.forward()
	case r.u.tf == nil:
		r.again = false
		r.u.log.Error("upgrade: cannot do what SIGHUP asks for", "err", ErrNotSupported)
	case r.attempt == nil:
		r.again = false
		r.begin(newAttempt(context.Background(), r.u, false), nil)
	case r.attempt.remember():
		r.again = false
	}
}

// forward passes on a SIGHUP that was sent before the pid file named the successor. A later one is not meant for this
// process, but sent to every process of a group, and the successor has got its own.
func (r *runner) forward() {
	if r.successor != nil && time.Since(r.handed) < commitStall {
		r.successor.signal(syscall.SIGHUP)
	}
}

// attempted handles the end of an attempt.
func (r *runner) attempted(err error) {
	a := r.attempt
	r.attempt = nil
	out := Outcome{At: time.Now(), Committed: err == nil}
	if e := (*Error)(nil); errors.As(err, &e) {
		out.Phase, out.Reason, out.PID = e.Phase, e.Reason, e.PID
	} else {
		out.PID = a.cand.pid
	}
	r.u.setLast(out)
	waiter := r.waiter
	r.waiter = nil
	if err != nil {
		r.u.log.Error("upgrade: failed, this process serves on", "phase", out.Phase, "reason", out.Reason, "candidate", out.PID, "version", a.cand.version)
		r.failed(a)
	} else {
		r.u.log.Info("upgrade: committed", "candidate", a.cand.pid, "version", a.cand.version, "generation", a.cand.generation)
		r.handedOver(a)
	}
	if waiter != nil {
		waiter <- err // last: it means that everything is as Upgrade promises
	}
}

func (r *runner) failed(a *attempt) {
	r.u.listeners.set(func(s *listeners) { s.unlink = !a.revive })
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
		a.child.signal(syscall.SIGTERM)
	} else if r.again {
		a.child.signal(syscall.SIGHUP)
	}
	r.plain, r.successor, r.handed = false, a.child, time.Now()
	if r.role == roleMain {
		r.leave("draining", &ending{reason: "handed over", handover: true})
	}
}
