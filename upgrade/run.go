package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// ending is the cause of the end of serve's context.
type ending struct {
	reason   string
	handover bool
	drains
}

func (e *ending) Error() string { return "upgrade: " + e.reason }

// Handover reports whether another generation serves on: nobody outside has to be told that this one goes.
func (e *ending) Handover() bool { return e.handover }

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

	served     chan error // serve has returned; nil when that has been seen
	prepared   chan error // the checks have passed or not; nil when that has been seen
	ready      bool       // prepared, without an error
	alone      bool       // there is no older process to fall back to
	proven     bool       // a candidate that has received the commit message
	supervised bool       // the end of the supervisor has not been read yet, and so nothing that it has said before is unread
	orphan     bool       // a candidate that serves until the supervisor has started the committed build
	opened     bool       // a candidate that has accepted
	aborted    bool       // a candidate that was taken back
	dismissal  bool       // an orphan that has a link to the process that serves
	waits      bool       // an aborted candidate that may not end yet: the old process might be dead
	plain      bool       // a plain stop: neither a handover nor an abort
	parent     <-chan wire.Frame
	next       *wire.Link // to the process that is started in place of this candidate, see orphan.go; nil: none

	attempt *attempt
	waiter  chan error // of the caller of Upgrade, if it was one
	again   bool       // an upgrade is to follow
	ending  error      // a stop that waits until a commit has gone through

	successor *child            // the process that has taken over
	handed    time.Time         // when it did
	heir      <-chan wire.Frame // what it says, or whoever it has passed its socket on to
	listens   bool              // it hears what older generations say

	oldTakes handoff.Takes    // which connections the old process can be given back
	sharing  *handoff.Sharing // with the old process, while this one is tried with a weight
	pulse    *time.Ticker     // when to say that this process lives

	taking   *taking    // the commit message that is being followed; nil: none
	acquired chan error // what becomes of the resources of a process that is alone; nil when that has been seen
	giveUp   func()     // stops acquiring

	unnamed   chan struct{}    // closed when the old process has named this one to the service manager, or will not any more; nil: it is over
	nameDue   <-chan time.Time // when it will not
	nameSince time.Duration    // since when this one waits for that, by sys.Uptime
	extended  time.Time        // when more time was asked for

	memory  memory  // which process is killed when it runs out
	overrun overrun // serve goes on although its context has ended
	retries retries // of what could not be written
	goers   goers   // processes that are about to end
}

// Run serves until ctx ends, a signal says so, serve returns, or another generation has taken over, and returns what
// serve returned. It calls serve at once in a goroutine of its own; serve has to accept on all listeners, and to finish
// when its context ends. The cause of that context has a method Handover() bool, which tells an upgrade, true, from a
// plain stop. A candidate that is taken back gets an *Error that is ErrAborted; main should then end with a non-zero
// status. A plain stop of a service whose supervisor has died ends with ErrUnsupervised. Run may be called once. It returns after
// the last goroutine that it started, with two exceptions: a goroutine that writes a line to a log that is stuck (see
// Options.Logger), and a serve that goes on after its context has ended, and of which nothing is known to drain. Then Run returns
// ErrServeStuck (Options.StuckAfter), and main should end: what serve still does ends with the process.
func (u *Upgrader) Run(ctx context.Context, serve func(context.Context) error) error {
	u.mu.Lock()
	if u.begun || u.closed {
		u.mu.Unlock()
		return fmt.Errorf("%w: Run may be called once, and not after Close", ErrClosed)
	}
	u.begun = true
	u.mu.Unlock()
	r := &runner{u: u, alone: u.parent == nil && !u.plainParent, served: make(chan error, 1), prepared: make(chan error, 1)}
	return r.run(ctx, serve)
}

func (r *runner) run(ctx context.Context, serve func(context.Context) error) error {
	u := r.u
	if u.parent != nil {
		r.parent = u.parent.Frames
		u.publisher.Store(u.parent)
		u.setState("candidate")
	}
	serveCtx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	r.endServe = end
	defer end(nil)
	var sig signals
	if r.alone { // whoever hears that it serves may signal at once; a candidate is known to nobody, and has no time to lose
		sig = u.notify()
	}
	u.compareSockets()
	served := r.served
	go func() { served <- serve(r.overrun.watch(serveCtx)) }() // a serve that ignores its context ends with the process
	stopChecks := r.prepare()
	defer stopChecks()
	if !r.alone {
		sig = u.notify()
	}
	defer sig.stop()
	close(u.running)
	defer close(u.ended) // also in a panic: main's deferred Close must not wait for a loop that has ended
	r.loop(ctx, sig)
	stopChecks()
	r.memory.end()
	r.rest()
	r.finish()
	sig.stop()
	r.late(sig)
	logqueue.Flush(u.log)
	return r.err
}

// prepare runs the checks beside serve. The function that it returns ends and awaits them.
func (r *runner) prepare() func() {
	since := r.u.welcome
	if since.IsZero() {
		since = time.Now()
	}
	// A bit less than the old process has, so that the reason gets there before it gives up.
	ctx, cancel := context.WithDeadline(context.Background(), since.Add(r.u.limit-r.u.limit/10))
	result, done, alone := r.prepared, make(chan struct{}), r.alone
	go func() {
		defer close(done)
		result <- r.u.prepare(ctx, alone)
	}()
	return func() { cancel(); <-done }
}

// prepare ends when this process could serve, or with the reason why it cannot.
func (u *Upgrader) prepare(ctx context.Context, alone bool) error {
	if err := u.keeper.Err(); err != nil {
		return err
	}
	if err := u.pid.Stage(); err != nil && !alone { // who serves anyway says so when it does
		return err
	}
	if !u.born.Started.IsZero() {
		u.reserveOutcome() // of the upgrade that has started this process
	}
	if u.forgotten != nil {
		return u.forgotten
	}
	u.mu.Lock()
	checks := u.checks
	u.mu.Unlock()
	for _, c := range checks {
		if err := guard.Call(func() error { return c.fn(ctx) }); err != nil {
			return fmt.Errorf("check %q: %w", c.name, err)
		}
	}
	if err := u.listeners.Accepting(ctx); err != nil {
		return err
	}
	return u.listeners.PutBack()
}

// loop ends when serve has returned and no attempt is under way.
func (r *runner) loop(ctx context.Context, sig signals) {
	stopped, closed := ctx.Done(), r.u.stop
	pulse, stopPulse := r.u.pulse()
	heard := r.u.manager.Heard()
	r.supervised = r.u.manager.HasChannel()
	defer stopPulse()
	for r.served != nil || r.attempt != nil || r.waits || r.acquired != nil || r.taking != nil {
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
			r.hangup(sig.terminal)
		case <-pulse:
			r.beat()
		case q := <-r.u.requests:
			r.answer(q)
		case err := <-r.prepared:
			r.prepared = nil
			r.isPrepared(err)
		case f, ok := <-r.parent:
			r.heard(f, ok)
		case err := <-r.attempt.result():
			r.attempted(err)
		case err := <-r.taking.result():
			r.hasTaken(err)
		case err := <-r.acquired:
			r.hasAcquired(err)
		case f, ok := <-r.heir:
			r.hurried(f, ok)
		case m, ok := <-heard:
			if !ok {
				heard = nil
				r.unsupervised()
				continue
			}
			r.told(m)
		// Not in an upgrade: the candidate may be the one to write by now.
		case <-r.retries.next(r.role == roleMain && r.attempt == nil && len(r.u.unwritten.list()) > 0):
			r.retries.try(r.u.unwritten.writeAgain)
		case <-r.retries.trying:
			r.retries.trying = nil
		case <-r.beats():
			_ = r.u.parent.TrySend(wire.KindBeat, nil, nil, 0) // the next one will do
		case f := <-r.u.elders.frames:
			r.elderSays(f)
		case e := <-r.u.elders.gone:
			r.elderGone(e)
		case <-r.nameDue:
			r.isNamed()
		case <-r.overrun.due():
			r.overruns()
		case <-r.goers.tick:
			r.lookAtPaths()
		case err := <-r.served:
			r.served = nil
			r.hasServed(r.overrun.returned(err))
		}
	}
}

// stop is the end of the service as a whole, or for a candidate the end of the attempt.
func (r *runner) stop(cause error) {
	switch {
	case r.role == roleLeaving:
		r.stopLeaving(cause)
	case r.role == roleCandidate && !r.alone:
		r.fail(r.phase(), fmt.Errorf("%w: the candidate was told to stop: %w", ErrAborted, cause))
		if r.role != roleLeaving { // nobody was there to hear it
			r.stop(cause)
		}
	case r.attempt != nil && !r.attempt.tryAbort(cause, true):
		r.ending = cause
	case r.orphan: // another process is about to serve
		r.u.log.Info("upgrade: stopping", "reason", cause)
		r.leave("stopping", &ending{reason: cause.Error(), handover: true})
	default:
		r.plain = true
		r.u.listeners.UnlinkOnClose(true)
		r.u.stopping(cause.Error())
		r.u.log.Info("upgrade: stopping", "reason", cause)
		r.leave("stopping", &ending{reason: cause.Error()})
	}
}

// stopLeaving handles a stop of a process that is on its way out: what it has begun elsewhere is to end too.
func (r *runner) stopLeaving(cause error) {
	r.waits = false
	if r.attempt != nil && !r.attempt.tryAbort(cause, true) {
		r.ending = cause
	}
	if r.successor != nil && time.Since(r.handed) < commitStall {
		r.successor.Signal(syscall.SIGTERM) // it was sent before the pid file named the successor
	}
}

// phase is where a candidate is.
func (r *runner) phase() Phase {
	if r.opened {
		return PhaseSoak
	}
	return PhaseCheck
}

func (r *runner) leave(state string, why *ending) {
	r.quitSuccession()
	r.role = roleLeaving
	if r.acquired != nil {
		r.giveUp()
	}
	if r.taking != nil {
		r.taking.cancel()
	}
	r.u.setState(state)
	r.u.room.drop()
	if why.handover {
		r.u.listeners.UnlinkOnClose(false)
		r.u.listeners.Pause(true)
		r.u.listeners.EndEmptying()
		r.u.unfollow()
	}
	r.overrun.begin(&why.drains, r.u.listeners, r.u.opts.StuckAfter, r.u.log)
	r.endServe(why)
	if state == "aborted" && !r.opened {
		r.u.listeners.End() // nothing was accepted, so a serve that ignores its context loses nothing
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
		if r.fail(PhaseStart, err); r.alone && r.err == nil {
			r.err = err // nobody to fall back to, and nothing to serve with
		}
	default:
		r.plain = !r.orphan
		r.quitSuccession()
		r.role, r.err = roleLeaving, err
		r.u.setState("stopping")
		if r.attempt != nil {
			r.attempt.commitNow() // a candidate is the best that can happen to this service now
		}
	}
}

// finish drops what this generation holds.
func (r *runner) finish() {
	u := r.u
	r.retries.end() // before the files are removed
	u.releaseResources()
	u.listeners.KeepClosed(false)
	u.listeners.ReleaseAll()
	if r.plain {
		if err := u.pid.Remove(); err != nil {
			u.log.Warn("upgrade: the pid file is left, and names a process that has ended", "err", err)
		}
	}
	u.stopTableflip()
	u.pid.Discard(os.Getpid())
	if r.pulse != nil {
		r.pulse.Stop()
	}
	r.dropNext()
	u.room.drop()
	u.elders.release()
	u.previous.release()
	if u.parent != nil {
		u.parent.Close()
	}
	if r.successor != nil {
		r.successor.link.Close()
	}
	u.setState("closed")
	if r.plain && r.err == nil {
		u.stopping("serve has returned")
	}
	if r.plain && r.err == nil && u.manager.SupervisorState() == "dead" {
		r.err = ErrUnsupervised
	}
	u.leaveManager()
	u.log.Info("upgrade: ended", "generation", u.generation, "pid", os.Getpid())
}
