package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// ending is the cause of the end of serve's context.
type ending struct {
	reason   string
	handover bool
}

func (e *ending) Error() string { return "upgrade: " + e.reason }

// Handover reports whether another generation serves on: nobody outside has to be told that this one goes.
func (e *ending) Handover() bool { return e.handover }

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
	reply chan error // buffered: gets one answer
}

type role int

const (
	roleCandidate role = iota // not the main generation yet; also the first one until it is up
	roleMain
	roleLeaving
)

// runner is Run: one goroutine that owns what this generation is and does. Everything that happens comes to it as a
// value on a channel, and everything slow runs elsewhere.
type runner struct {
	u        *Upgrader
	role     role
	err      error
	endServe context.CancelCauseFunc

	served   chan error // serve has returned; nil when that has been seen
	prepared chan error // the checks have passed or not; nil when that has been seen
	ready    bool       // prepared, without an error
	alone    bool       // there is no older process to fall back to
	opened   bool       // a candidate that has accepted
	aborted  bool       // a candidate that was taken back
	plain    bool       // a plain stop: neither a handover nor an abort
	parent   <-chan frame

	attempt *attempt
	waiter  chan error // of the caller of Upgrade, if it was one
	again   bool       // an upgrade is to follow
	ending  error      // a stop that waits until a commit has gone through

	successor *child // the process that has taken over
}

// Run serves until ctx ends, a signal says so, serve returns, or another generation has taken over, and returns what
// serve returned. It calls serve at once in a goroutine of its own; serve has to accept on all listeners, and to finish
// when its context ends. The cause of that context has a method Handover() bool, which tells an upgrade, true, from a
// plain stop. A candidate that is taken back gets an *Error that is ErrAborted; main should then end with a non-zero
// status. Run may be called once. It returns after the last goroutine that it started.
func (u *Upgrader) Run(ctx context.Context, serve func(context.Context) error) error {
	u.mu.Lock()
	if u.begun || u.closed {
		u.mu.Unlock()
		return fmt.Errorf("%w: Run may be called once, and not after Close", ErrClosed)
	}
	u.begun = true
	u.mu.Unlock()
	r := &runner{u: u, alone: u.parent == nil && !u.plainParent, served: make(chan error, 1), prepared: make(chan error, 1)}
	if r.alone {
		if err := u.pid.stage(); err != nil {
			u.neverRun()
			return fmt.Errorf("upgrade: %w", err)
		}
	}
	return r.run(ctx, serve)
}

func (r *runner) run(ctx context.Context, serve func(context.Context) error) error {
	u := r.u
	if u.parent != nil {
		r.parent = u.parent.frames
		u.setState("candidate")
	}
	serveCtx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	r.endServe = end
	defer end(nil)
	sig := u.notify()
	defer sig.stop()
	served := r.served
	go func() { served <- serve(serveCtx) }()
	stopChecks := r.prepare()
	defer stopChecks()
	close(u.running)
	defer close(u.ended) // also in a panic: main's deferred Close must not wait for a loop that has ended
	r.loop(ctx, sig)
	stopChecks()
	r.finish()
	return r.err
}

// signals are the ones that Run asks for. Each channel has room for one: a second of its kind says the same.
type signals struct{ hangup, terminate, interrupt chan os.Signal }

func (u *Upgrader) notify() signals {
	s := signals{make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1)}
	if !u.opts.NoSignals {
		signal.Notify(s.hangup, syscall.SIGHUP)
		signal.Notify(s.terminate, syscall.SIGTERM)
		signal.Notify(s.interrupt, os.Interrupt)
	}
	return s
}

func (s signals) stop() {
	signal.Stop(s.hangup)
	signal.Stop(s.terminate)
	signal.Stop(s.interrupt)
}

// prepare runs the checks beside serve. The function that it returns ends and awaits them.
func (r *runner) prepare() func() {
	limit := r.u.limit - r.u.limit/10 // so that the reason gets there before the old process gives up
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	result, done := r.prepared, make(chan struct{})
	go func() {
		defer close(done)
		result <- r.u.prepare(ctx)
	}()
	return func() { cancel(); <-done }
}

// prepare ends when this process could serve, or with the reason why it cannot.
func (u *Upgrader) prepare(ctx context.Context) error {
	if err := u.keeper.err(); err != nil {
		return err
	}
	if err := u.pid.stage(); err != nil {
		return err
	}
	u.mu.Lock()
	checks := u.checks
	u.mu.Unlock()
	for _, c := range checks {
		if err := guard(func() error { return c.fn(ctx) }); err != nil {
			return fmt.Errorf("check %q: %w", c.name, err)
		}
	}
	return u.listeners.accepting(ctx)
}

// loop ends when serve has returned and no attempt is under way.
func (r *runner) loop(ctx context.Context, sig signals) {
	stopped, closed := ctx.Done(), r.u.stop
	for r.served != nil || r.attempt != nil {
		var attempted <-chan error
		if r.attempt != nil {
			attempted = r.attempt.done
		}
		select {
		case <-stopped:
			stopped = nil
			r.stop(context.Cause(ctx))
		case <-closed:
			closed = nil
			r.stop(ErrClosed)
		case <-sig.terminate:
			r.stop(errors.New("SIGTERM"))
		case <-sig.interrupt:
			signal.Stop(sig.interrupt) // the next one ends the process, as in every program that does not ask for it
			r.stop(errors.New("SIGINT"))
		case <-sig.hangup:
			r.again = true
			r.upgradeAgain()
		case q := <-r.u.requests:
			r.answer(q)
		case err := <-r.prepared:
			r.prepared = nil
			r.isPrepared(err)
		case f, ok := <-r.parent:
			r.heard(f, ok)
		case err := <-attempted:
			r.attempted(err)
		case err := <-r.served:
			r.served = nil
			r.hasServed(err)
		}
	}
}

// stop is the end of the service as a whole, or for a candidate the end of the attempt.
func (r *runner) stop(cause error) {
	switch {
	case r.role == roleLeaving:
	case r.role == roleCandidate && !r.alone:
		r.fail(PhaseCheck, fmt.Errorf("%w: the candidate was told to stop: %w", ErrAborted, cause))
	case r.attempt != nil && !r.attempt.tryAbort(cause, true):
		r.ending = cause
	default:
		r.plain = true
		r.u.listeners.set(func(s *listeners) { s.unlink = true })
		r.u.log.Info("upgrade: stopping", "reason", cause)
		r.leave("stopping", &ending{reason: cause.Error()})
	}
}

func (r *runner) leave(state string, why *ending) {
	r.role = roleLeaving
	r.u.setState(state)
	if why.handover {
		r.u.listeners.set(func(s *listeners) { s.unlink = false })
		r.u.listeners.pause()
	}
	r.endServe(why)
}

// fail ends a candidate for a reason of its own, if there still is an old process to serve on.
func (r *runner) fail(p Phase, err error) {
	if r.u.parent != nil && r.u.parent.send(kindFailed, failedBody{Phase: p, Reason: err.Error()}) != nil {
		r.orphaned()
		return
	}
	atStep("new.failed")
	r.err = &Error{Phase: p, Reason: err.Error(), Err: err}
	r.leave("aborted", &ending{reason: err.Error(), handover: true})
}

func (r *runner) isPrepared(err error) {
	switch {
	case r.role != roleCandidate:
		return
	case err != nil && !r.alone:
		r.fail(PhaseCheck, err)
		return
	case err != nil:
		r.u.log.Error("upgrade: serving although not everything is right: there is no other process to do it", "err", err)
	}
	r.ready = true
	if r.alone || r.u.plainParent {
		r.becomeMain()
		return
	}
	atStep("new.prepare")
	if r.u.parent.send(kindPrepared, nil) == nil {
		atStep("new.prepared")
	}
}

// becomeMain is the commit: from here on this generation is the service.
func (r *runner) becomeMain() {
	u := r.u
	r.role = roleMain
	u.listeners.set(func(s *listeners) { s.unlink = true })
	u.listeners.open(true)
	atStep("new.commit")
	if u.tf != nil {
		if err := u.tf.Ready(); err != nil {
			u.log.Warn("upgrade: the old process did not hear of the commit", "err", err)
		}
	}
	atStep("new.ready")
	if err := u.pid.publish(); err != nil {
		u.log.Error("upgrade: serving without a pid file", "err", err)
	}
	if u.generation > 1 {
		_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	}
	u.setState("serving")
	u.log.Info("upgrade: serving", "generation", u.generation, "version", u.opts.Version, "pid", os.Getpid())
	r.upgradeAgain()
}

// heard handles a frame of the old process, or its death.
func (r *runner) heard(f frame, ok bool) {
	if !ok {
		r.parent = nil
		r.orphaned()
		return
	}
	defer f.close()
	switch {
	case r.role != roleCandidate:
	case f.kind == kindOpen:
		r.opened = true
		r.u.listeners.open(false)
		atStep("new.opened")
	case f.kind == kindCommit:
		r.commit(f)
	case f.kind == kindAbort:
		r.takenBack(f)
	}
}

func (r *runner) commit(f frame) {
	var body commitBody
	err := f.decode(&body)
	if err == nil && body.State && len(f.files) > 0 {
		err = r.u.keeper.receive(f.files[0])
	}
	if err != nil {
		r.fail(PhaseCommit, err)
		return
	}
	r.again = r.again || body.Again
	again := r.again
	r.again = false
	r.becomeMain()
	_ = r.u.parent.send(kindServing, nil) // a dead old process needs no answer
	atStep("new.serving")
	r.again = again
	r.upgradeAgain()
}

// takenBack ends a candidate that the old process does not want. The listeners stay in hand until the process ends, in
// case the old one dies first.
func (r *runner) takenBack(f frame) {
	var body abortBody
	_ = f.decode(&body)
	r.aborted = !body.Stopping
	r.u.listeners.set(func(s *listeners) { s.keep = r.aborted })
	r.err = &Error{Phase: PhaseCheck, Reason: "taken back by the old process: " + body.Reason, Err: ErrAborted}
	if r.opened {
		r.err.(*Error).Phase = PhaseSoak
	}
	atStep("new.aborted")
	r.leave("aborted", &ending{reason: "taken back", handover: true})
}

// orphaned is the death of the old process. A candidate becomes the service, prepared or not. One that was taken back
// already cannot: its server has ended. It starts itself anew on the listeners that it still holds.
func (r *runner) orphaned() {
	switch {
	case r.role == roleCandidate:
		r.u.log.Warn("upgrade: the old process has died: taking over")
		r.alone = true
		r.u.listeners.open(true)
		if r.ready || r.prepared == nil {
			r.becomeMain()
		}
	case r.aborted && r.attempt == nil:
		r.aborted = false
		r.u.log.Warn("upgrade: the old process has died after it took this one back: starting anew")
		r.begin(newAttempt(context.Background(), r.u, true), nil)
	}
}

func (r *runner) hasServed(err error) {
	switch {
	case r.role == roleLeaving:
		if r.err == nil {
			r.err = err
		}
		r.giveBack()
	case r.role == roleCandidate && !r.alone:
		if err == nil {
			err = errors.New("serve returned before the commit")
		}
		if r.fail(PhaseStart, err); r.alone {
			r.err = err // nobody to fall back to, and nothing to serve with
		}
	default:
		r.role, r.plain, r.err = roleLeaving, true, err
		r.u.setState("stopping")
		if r.attempt != nil {
			r.attempt.commitNow() // a candidate is the best that can happen to this service now
		}
	}
}

// giveBack sends the state of a candidate that has served to the old process. If that one is gone, this one has to go on.
func (r *runner) giveBack() {
	if !r.aborted || r.parent == nil {
		return
	}
	var files []*os.File
	if r.opened {
		state, err := r.u.keeper.snapshot()
		if err != nil {
			r.u.log.Error("upgrade: cannot give the state back", "err", err)
		} else if state != nil {
			defer state.Close()
			files = append(files, state)
		}
	}
	if r.u.parent.send(kindReturned, returnedBody{State: len(files) > 0}, files...) != nil {
		r.orphaned()
	}
	atStep("new.returned")
}

// finish drops what this generation holds.
func (r *runner) finish() {
	u := r.u
	u.listeners.set(func(s *listeners) { s.keep = false })
	u.listeners.releaseAll()
	if r.plain {
		u.pid.remove()
		if u.tf != nil {
			u.tf.Stop() // only now: it removes the paths of unix sockets, and is not for a handover
		}
	}
	u.pid.discard(os.Getpid())
	if u.parent != nil {
		u.parent.close()
	}
	if r.successor != nil {
		r.successor.link.close()
	}
	u.setState("closed")
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
	case r.attempt == nil:
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
	case r.role == roleLeaving || r.u.tf == nil:
		r.again = false
	case r.attempt == nil:
		r.again = false
		r.begin(newAttempt(context.Background(), r.u, false), nil)
	case r.attempt.remember():
		r.again = false
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
	if r.waiter != nil {
		r.waiter <- err
		r.waiter = nil
	}
	if err != nil {
		r.u.log.Error("upgrade: failed, this process serves on", "phase", out.Phase, "reason", out.Reason, "candidate", out.PID)
		r.failed(a)
		return
	}
	r.u.log.Info("upgrade: committed", "candidate", a.cand.pid, "version", a.cand.version, "generation", a.cand.generation)
	r.handedOver(a)
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
	r.plain, r.successor = false, a.child
	if r.role == roleMain {
		r.leave("draining", &ending{reason: "handed over", handover: true})
	}
}
