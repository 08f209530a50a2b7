package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// checkResult is what the checks of a generation have found.
type checkResult int

const (
	checksRun checkResult = iota
	checksPassed
	checksFailed
)

// generation is Run: one goroutine that owns what this process is and does. The goroutine receives events from channels, looks up the
// action and the next state of each (states.go), and starts goroutines for everything slow.
type generation struct {
	u        *Upgrader
	table    *[genStates]genRow
	state    genState
	checks   checkResult
	err      error // what Run returns
	endServe context.CancelCauseFunc

	served   chan error // gets the result of serve; nil after that
	prepared chan error // gets the result of the checks; nil after that

	accepted   bool // this process has accepted before it was the main generation
	supervised bool // the end of the supervisor was not read yet, and so no earlier message is unread
	again      bool // an upgrade was asked for, and begins when it is possible

	fromOld <-chan wire.Frame // messages of the old process; nil after its end
	old     oldProcess
	next    nextLink
	late    *wire.Link // to the process that serves now and gets late connections; nil: none

	attempt      *attempt
	attemptEnded <-chan attemptEnd // nil: no attempt is under way
	waiter       chan error        // of the call of Upgrade that waits for the attempt; nil: none
	ending       error             // the cause of a stop that waits for a commit
	successor    successor

	taking    *taking   // nil: no commit message is being followed
	acquiring *call     // nil: no resource is being acquired
	snapshot  *snapshot // nil: no kept values are being written
	naming    naming
	tellings  tellings
	beside    sync.WaitGroup // of goroutines that send what needs no answer
	watchdog  watchdog

	memory  memory
	overrun overrun
	retries retries
	goers   goers
}

func newGeneration(u *Upgrader) *generation {
	g := &generation{
		u: u, table: &genTable, state: genStarting,
		served: make(chan error, 1), prepared: make(chan error, 1), tellings: tellings{ended: make(chan *telling)},
	}
	if u.parent != nil || u.plainParent {
		g.state = genCandidate
	}
	if u.parent != nil {
		g.fromOld = u.parent.Frames
	}
	return g
}

// fire moves to the next state that the table has for an event, and runs the action.
func (g *generation) fire(e genEvent, d detail) {
	c, ok := g.table[g.state][e]
	if !ok {
		g.u.log.Error("upgrade: an event that cannot come in this state is ignored", "state", g.state.String(), "event", e.String())
		return
	}
	d.from = g.state
	if c.next != genStay {
		g.state = c.next
	}
	if c.do != nil {
		c.do(g, d)
	}
}

// Run serves until ctx ends, a signal asks for the end, serve returns, or another generation has taken over, and returns the
// error of serve. Run calls serve at once in a new goroutine; serve has to accept on all listeners, and to finish
// when its context ends. The cause of the context has a method Handover() bool, which is true for an upgrade and false for a
// plain stop. A candidate that is taken back gets an *Error that is ErrAborted; main should then end with a non-zero
// status. A plain stop of a service whose supervisor has died ends with ErrUnsupervised. Run may be called once. Run returns after
// its last goroutine, with two exceptions: a goroutine that writes a line to a stuck log (see Options.Logger), and a serve that goes
// on after the end of its context and is not known to drain. Then Run returns ErrServeStuck (Options.StuckAfter), and main should
// end: serve ends with the process.
func (u *Upgrader) Run(ctx context.Context, serve func(context.Context) error) error {
	u.mu.Lock()
	if u.begun || u.closed {
		u.mu.Unlock()
		return fmt.Errorf("%w: Run may be called once, and not after Close", ErrClosed)
	}
	u.begun = true
	u.mu.Unlock()
	return newGeneration(u).run(ctx, serve)
}

func (g *generation) run(ctx context.Context, serve func(context.Context) error) error {
	u := g.u
	if u.parent != nil {
		u.publisher.Store(u.parent)
		u.setState("candidate")
	}
	serveCtx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	g.endServe = end
	defer end(nil)
	var sig signals
	first := g.state == genStarting
	if first { // a signal may come as soon as a first process serves; a candidate gets none so early, and has no time to lose
		sig = u.notify()
	}
	u.compareSockets()
	served := g.served
	go func() { served <- serve(g.overrun.watch(serveCtx)) }() // a serve that ignores its context ends with the process
	stopChecks := g.prepare(first)
	defer stopChecks()
	if !first {
		sig = u.notify()
	}
	defer sig.stop()
	close(u.running)
	defer close(u.ended) // also in a panic: main's deferred Close must not wait for a loop that has ended
	g.loop(ctx, sig)
	stopChecks()
	g.memory.end()
	g.rest()
	g.finish()
	sig.stop()
	g.successor.late(sig)
	logqueue.Flush(u.log)
	return g.err
}

// prepare runs the checks beside serve. The returned function ends the checks and waits for them.
func (g *generation) prepare(first bool) func() {
	since := g.u.welcome
	if since.IsZero() {
		since = time.Now()
	}
	// A bit less than the old process has, so that the reason gets there before it gives up.
	ctx, cancel := context.WithDeadline(context.Background(), since.Add(g.u.limit-g.u.limit/10))
	result, done := g.prepared, make(chan struct{})
	go func() {
		defer close(done)
		result <- g.u.prepare(ctx, first)
	}()
	return func() { cancel(); <-done }
}

// loop receives what happens until serve has returned and nothing else is under way.
func (g *generation) loop(ctx context.Context, sig signals) {
	stopped, closed := ctx.Done(), g.u.stop
	g.watchdog.start(g.u.manager)
	defer g.watchdog.stop()
	fromSupervisor := g.u.manager.Heard()
	g.supervised = g.u.manager.HasChannel()
	for g.served != nil || g.attempt != nil || g.state == genReturning || g.acquiring != nil || g.taking != nil || len(g.tellings.all) > 0 {
		select {
		case <-stopped:
			stopped = nil
			g.stop(context.Cause(ctx))
		case <-closed:
			closed = nil
			g.stop(ErrClosed)
		case <-sig.terminate:
			g.stop(errors.New("SIGTERM"))
		case <-sig.interrupt:
			signal.Stop(sig.interrupt) // the next one ends the process, as in every program that does not ask for it
			g.stop(errors.New("SIGINT"))
		case <-sig.hangup:
			g.hangup(sig.terminal)
		case <-g.watchdog.due():
			g.fire(onWatchdog, detail{})
		case q := <-g.u.requests:
			g.fire(onRequest, detail{request: q})
		case err := <-g.prepared:
			g.checked(err)
		case f, ok := <-g.fromOld:
			g.receiveOld(f, ok)
		case end := <-g.attemptEnded:
			g.attempted(end)
		case err := <-g.taking.result():
			g.taken(err)
		case err := <-g.acquiring.result():
			g.hasAcquired(err)
		case err := <-g.snapshot.result():
			g.hasSnapshot(err)
		case t := <-g.tellings.ended:
			g.hasTold(t)
		case f, ok := <-g.successor.frames:
			g.receiveSuccessor(f, ok)
		case m, ok := <-fromSupervisor:
			if !ok {
				fromSupervisor = nil
			}
			g.receiveSupervisor(m, ok)
		// Not in an upgrade: the candidate may be the one to write by now.
		case <-g.retries.next(g.state == genServing && g.attempt == nil && len(g.u.unwritten.list()) > 0):
			g.retries.try(g.u.unwritten.writeAgain)
		case <-g.retries.trying:
			g.retries.trying = nil
		case <-g.old.heartbeats():
			_ = g.u.parent.TrySend(wire.KindBeat, nil, nil, 0) // the next one will do
		case f := <-g.u.elders.frames:
			g.receiveElder(f)
		case e := <-g.u.elders.gone:
			g.elderGone(e)
		case <-g.naming.due:
			g.named()
		case <-g.overrun.due():
			if err := g.overrun.look(); err != nil {
				g.hasServed(err)
			}
		case <-g.goers.tick:
			g.goers.putPathsBack(g.u, g.state == genServing)
		case err := <-g.served:
			g.hasServed(g.overrun.returned(err))
		}
	}
}

// either returns the event for a result: well without an error, and badly with one.
func either(err error, well, badly genEvent) genEvent {
	if err != nil {
		return badly
	}
	return well
}

// stop ends the service as a whole, or for a candidate the attempt. During a commit the stop waits for the result.
func (g *generation) stop(cause error) {
	if g.attempt != nil && !g.attempt.tryAbort(cause, true) {
		g.ending = cause
		return
	}
	g.fire(onStop, detail{err: cause})
}

// hangup handles a SIGHUP, which asks for an upgrade, unless the terminal ends at the same moment and no call of Request has sent the
// signal. Under nohup the end of the terminal means nothing.
func (g *generation) hangup(t *sys.Terminal) {
	switch {
	case !t.Ends() || g.u.pid.Asked():
		g.fire(onHangup, detail{})
	case !g.u.detached:
		g.stop(errors.New("the terminal was closed"))
	}
}

// hasServed handles the end of serve.
func (g *generation) hasServed(err error) {
	g.served = nil
	g.fire(onServed, detail{err: err})
}

// hasAcquired handles the result of the acquisition of resources.
func (g *generation) hasAcquired(err error) {
	g.acquiring.stop()
	g.acquiring = nil
	g.fire(either(err, onAcquired, onAcquireFailed), detail{err: err})
}

// hasSnapshot handles the file of the kept values.
func (g *generation) hasSnapshot(err error) {
	state := g.snapshot.state
	g.snapshot = nil
	g.fire(onSnapshot, detail{err: err, state: state})
}

// elderGone handles the end of an older generation.
func (g *generation) elderGone(e *elder) {
	g.u.elders.forget(e)
	g.goers.add(e.PID)
}

// checked handles the result of the checks.
func (g *generation) checked(err error) {
	g.prepared, g.checks = nil, checksPassed
	if err != nil {
		g.checks = checksFailed
	}
	g.fire(either(err, onChecksPassed, onChecksFailed), detail{phase: PhaseCheck, err: err})
}

// stopService is the plain end of the service.
func (g *generation) stopService(d detail) {
	g.u.listeners.UnlinkOnClose(true)
	g.u.stopping(d.err.Error())
	g.u.log.Info("upgrade: stopping", "reason", d.err)
	g.leave("stopping", d, &ending{reason: d.err.Error()})
}

// cannotServe ends a process without another one to fall back to that could not acquire a resource.
func (g *generation) cannotServe(d detail) {
	g.err = fmt.Errorf("upgrade: %w", d.err)
	g.u.log.Error("upgrade: cannot serve without it", "err", d.err)
	g.leave("stopping", d, &ending{reason: d.err.Error()})
}

// leave ends serve's context and the calls beside the loop. Status shows the text shown.
func (g *generation) leave(shown string, d detail, why *ending) {
	g.quitSuccession(d)
	g.acquiring.stop()
	g.taking.stop()
	g.u.setState(shown)
	g.u.room.drop()
	if why.handover {
		g.u.listeners.UnlinkOnClose(false)
		g.u.listeners.Pause(true)
		g.u.listeners.EndEmptying()
		g.u.unfollow()
	}
	g.overrun.begin(&why.drains, g.u.listeners, g.u.opts.StuckAfter, g.u.log)
	g.endServe(why)
	if shown == "aborted" && !g.accepted {
		g.u.listeners.End() // nothing was accepted, so a serve that ignores its context loses nothing
	}
}

// quitSuccession tells the supervisor that this candidate will never be the service.
func (g *generation) quitSuccession(d detail) {
	if d.from.beforeService() && g.u.parent != nil {
		g.u.manager.HandedOver()
	}
}

// endWithServe ends a process whose serve has returned by itself. A running attempt is committed at once: the candidate can serve.
func (g *generation) endWithServe(d detail) {
	g.quitSuccession(d)
	g.acquiring.stop()
	g.taking.stop()
	g.err = d.err
	g.u.setState("stopping")
	if g.attempt != nil {
		g.attempt.commitNow()
	}
}

// noteServed notes the error of serve in a process on its way out.
func (g *generation) noteServed(d detail) { g.err = cmp.Or(g.err, d.err) }

// finish releases everything that this generation holds.
func (g *generation) finish() {
	u := g.u
	stops := g.state == genStopping
	g.beside.Wait() // for two seconds at most
	g.retries.end() // before the files are removed
	u.releaseResources()
	u.listeners.KeepClosed(false)
	u.listeners.ReleaseAll()
	if stops {
		if err := u.pid.Remove(); err != nil {
			u.log.Warn("upgrade: the pid file is left, and names a process that has ended", "err", err)
		}
	}
	u.stopTableflip()
	u.pid.Discard(os.Getpid())
	g.snapshot.drop()
	g.old.endHeartbeat()
	g.next.drop()
	u.room.drop()
	u.elders.release()
	u.previous.release()
	if u.parent != nil {
		u.parent.Close()
	}
	g.successor.close()
	g.fire(onFinished, detail{})
	u.setState("closed")
	if stops && g.err == nil {
		u.stopping("serve has returned")
		if u.manager.SupervisorState() == "dead" {
			g.err = ErrUnsupervised
		}
	}
	u.leaveManager()
	u.log.Info("upgrade: ended", "generation", u.generation, "pid", os.Getpid())
}
