package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// fire looks up the event e in the table, goes to the next state, and runs the action.
func (g *generation) fire(e genEvent, d detail) {
	c := g.table[g.state].cell(e)
	if c == nil {
		g.log.Error("upgrade: an event that cannot come in this state is ignored", "state", g.state.String(), "event", e.String())
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

func (g *generation) run(ctx context.Context, serve func(context.Context) error) error {
	if g.old.link != nil {
		g.traffic.publisher.Store(g.old.link)
		g.shown.setState("candidate")
	}
	serveCtx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	g.endServe = end
	defer end(nil)
	var sig signals
	first := g.state == genStarting
	if first { // subscribe before serve runs, because signals may come then; a candidate subscribes later, to start fast
		sig = notifySignals(g.opts.NoSignals, g.estate.manager.SupervisorState() != "")
	}
	forgotten := compareSockets(&g.estate, &g.origin, g.opts.MayClose)
	go func(served chan error) { served <- serve(g.overrun.watch(serveCtx)) }(g.served) // ends with serve, or with the process
	stopChecks := startChecks(g.parts, forgotten, g.prepared, first)
	defer stopChecks()
	if !first {
		sig = notifySignals(g.opts.NoSignals, g.estate.manager.SupervisorState() != "")
	}
	defer sig.stop()
	close(g.control.running)
	defer close(g.control.ended) // also if run panics: otherwise a deferred Close in main would wait for ever
	g.loop(ctx, sig)
	stopChecks()
	g.memory.end()
	g.rest()
	g.finish()
	sig.stop()
	g.successor.late(sig)
	logqueue.Flush(g.log)
	return g.err
}

// loop receives events until serve has returned, and no attempt, taking, acquiring or sending of tellings goes on any more. In
// the state returning, loop also waits for the answer of the old process.
func (g *generation) loop(ctx context.Context, sig signals) {
	stopped, closed := ctx.Done(), g.control.stop
	g.watchdog.start(g.estate.manager)
	defer g.watchdog.stop()
	g.fromSupervisor, g.supervised = g.estate.manager.Heard(), g.estate.manager.HasChannel()
	for g.served != nil || g.attempt != nil || g.state == genReturning || g.acquiring != nil || g.taking != nil || g.tellings.sending() {
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
			signal.Stop(sig.interrupt) // the next SIGINT has its default effect: it ends the process
			g.stop(errors.New("SIGINT"))
		case <-sig.hangup:
			g.hangup(sig.terminal)
		case <-g.watchdog.due():
			g.fire(onWatchdog, detail{})
		case q := <-g.control.requests:
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
		case t := <-g.tellings.written:
			g.fire(onWritten, detail{telling: t})
		case <-g.tellings.stopDue:
			resumeStop(g)
		case t := <-g.tellings.ended:
			g.hasTold(t)
		case f, ok := <-g.successor.frames:
			g.receiveSuccessor(f, ok)
		case m, ok := <-g.fromSupervisor:
			g.receiveSupervisor(m, ok)
		// The pid file and the outcome are not written again during an attempt: perhaps the candidate writes them already.
		case <-g.retries.next(g.state == genServing && g.attempt == nil && len(g.estate.unwritten.list()) > 0):
			g.retries.try(g.estate.unwritten.writeAgain)
		case <-g.retries.trying:
			g.retries.trying = nil
		case <-g.old.heartbeats():
			_ = g.old.link.TrySend(wire.KindBeat, nil, nil, 0) // a failure does no harm: the next heartbeat follows
		case f := <-g.history.elders.frames:
			g.receiveElder(f)
		case e := <-g.history.elders.gone:
			g.elderGone(e)
		case <-g.naming.due:
			g.named()
		case <-g.overrun.due():
			if err := g.overrun.look(); err != nil {
				g.hasServed(err)
			}
		case <-g.goers.tick:
			g.goers.putPathsBack(&g.estate, g.state == genServing)
		case err := <-g.served:
			g.hasServed(g.overrun.returned(err))
		}
	}
}

// stop ends the whole service. In a candidate, stop only ends the upgrade. A stop waits for an attempt that can no longer be
// aborted. A new main generation first sends the message serving: without it, the old process would serve again.
func (g *generation) stop(cause error) {
	if g.attempt != nil && !g.attempt.tryAbort(cause, true) || g.state == genServing && g.tellings.holdStop() {
		g.ending = cause
		return
	}
	g.fire(onStop, detail{err: cause})
}

// hangup handles a SIGHUP. The signal asks for an upgrade if Request has sent it, or if the terminal has not ended. Any other
// SIGHUP comes from the end of the terminal: it stops the service, unless the service was started under nohup.
func (g *generation) hangup(t *sys.Terminal) {
	switch {
	case !t.Ends() || g.estate.pid.Asked():
		g.fire(onHangup, detail{})
	case !g.origin.detached:
		g.stop(errors.New("the terminal was closed"))
	}
}

func (g *generation) hasServed(err error) {
	g.served = nil
	g.fire(onServed, detail{err: err})
}

// hasAcquired handles the result of acquiring the exclusive resources.
func (g *generation) hasAcquired(err error) {
	g.acquiring.stop()
	g.acquiring = nil
	g.fire(either(err, onAcquired, onAcquireFailed), detail{err: err})
}

// hasSnapshot handles the result of writing the kept values to a file.
func (g *generation) hasSnapshot(err error) {
	state := g.snapshot.state
	g.snapshot.stop()
	g.snapshot = nil
	g.fire(onSnapshot, detail{err: err, state: state})
}

func (g *generation) checked(err error) {
	g.prepared, g.result = nil, checksPassed
	if err != nil {
		g.result = checksFailed
	}
	g.fire(either(err, onChecksPassed, onChecksFailed), detail{phase: PhaseCheck, err: err})
}

// answer handles a call of Upgrade, Commit, Abort or a similar method while this process serves.
func (g *generation) answer(d detail) {
	switch q := d.request; {
	case q.op == opUpgrade && g.attempt != nil:
		q.reply <- ErrInProgress
	case q.op == opUpgrade && q.mode == modeRollback && g.history.previous.status() == nil:
		q.reply <- fmt.Errorf("%w: no earlier build is known", ErrNotReady)
	case q.op == opUpgrade:
		g.begin(newAttempt(q.ctx, g.parts, q.mode), q.reply)
	case g.attempt == nil || q.only != nil && q.only != g.waiter:
		q.reply <- fmt.Errorf("%w: no upgrade is in progress", ErrNotReady)
	case q.op == opCommit:
		q.reply <- g.commitNow()
	case g.attempt.tryAbort(q.cause, false):
		q.reply <- nil
	default:
		q.reply <- fmt.Errorf("%w: the upgrade is being committed", ErrClosed)
	}
}

func (g *generation) commitNow() error {
	if c := g.shown.get().Candidate; c == nil || c.Phase != PhaseBake && c.Phase != PhaseSoak && c.Phase != PhaseCommit {
		return fmt.Errorf("%w: the candidate is not prepared yet", ErrNotReady)
	}
	if err := context.Cause(g.attempt.ctx); err != nil {
		return fmt.Errorf("%w: the upgrade is being taken back: %w", ErrNotReady, err)
	}
	g.attempt.commitNow()
	return nil
}

func (g *generation) begin(a *attempt, waiter chan error) {
	g.estate.listeners.UnlinkOnClose(false)               // because the new process will serve on the paths of the sockets
	if !g.naming.waits() && g.tellings.writing() == nil { // otherwise announceNamed or announce calls reloading later
		g.reloading(a)
	}
	g.attempt, g.waiter, a.writes, a.unsettled = a, waiter, g.retries.trying, g.tellings.settled(&g.naming)
	ended := make(chan attemptEnd, 1)
	g.attemptEnded = ended
	go func() { // ends when it has sent its result to ended; the loop waits for the result
		a.run()
		err := <-a.result()
		out := a.outcome(err)
		a.files.Go(func() {
			a.dismissal.takeFileBack() // before the outcome: a deploy script reads the pid file when it knows the outcome
			g.estate.recordOutcome(out)
		})
		ended <- attemptEnd{err, out, waitWithin(&a.files, fileWait)}
	}()
}

// reloading reports to the service manager that the main generation has begun an attempt. A rehearsal is not reported.
func (g *generation) reloading(a *attempt) {
	if g.state == genServing && a.mode != modeRehearsal {
		g.watchdog.extended = time.Now()
		g.estate.manager.Reloading(fmt.Sprintf("%s: %s", g.announcer.text(), a.mode))
	}
}

// attempted handles the end of an attempt.
func (g *generation) attempted(end attemptEnd) {
	a, err, out := g.attempt, end.err, end.outcome
	g.attempt, g.attemptEnded = nil, nil
	g.retries.adopt(end.writing)
	g.shown.setLast(out)
	waiter := g.waiter
	g.waiter = nil
	switch {
	case err != nil:
		if g.state == genServing {
			g.announcer.announceEnd(out)
		}
		g.log.Error("upgrade: failed, this process serves on", "phase", out.Phase, "reason", out.Reason, "candidate", out.PID, "version", out.Version)
		g.fire(onAttemptFailed, detail{attempt: a})
	case a.mode == modeRehearsal:
		g.log.Info("upgrade: rehearsed, this process serves on", "version", out.Version)
		g.fire(onAttemptFailed, detail{attempt: a})
	default:
		g.log.Info("upgrade: committed", "candidate", out.PID, "version", out.Version, "generation", out.Generation)
		g.fire(onAttemptDone, detail{attempt: a})
	}
	if waiter != nil {
		waiter <- err // comes last, because Upgrade must return only when all of the above is done
	}
}

// serveOn goes on after a failed attempt or a rehearsal. A stop or an upgrade that was asked for during the attempt begins now.
func (g *generation) serveOn(d detail) {
	a := d.attempt
	g.estate.listeners.UnlinkOnClose(a.mode != modeRevive)
	if resumeStop(g) {
		return
	}
	g.again = g.again || a.again
	g.upgradeAgain()
}

// handOver hands over to the successor, and passes on a stop or an upgrade that was asked for during the commit.
func (g *generation) handOver(d detail) {
	a := d.attempt
	if g.ending != nil {
		a.child.stop()
	} else if g.again {
		a.child.Signal(syscall.SIGHUP)
	}
	g.late = a.child.link
	mover := a.peer.mover(a)
	g.successor = successor{child: a.child, since: time.Now(), frames: a.child.link.Frames, reads: mover != nil}
	if mover != nil {
		g.history.elders.quit()
		g.traffic.setMover(mover)
	}
	if d.from == genServing {
		g.leave("draining", d, &ending{reason: "handed over", handover: true})
	}
	if !a.hello.Speaks { // if Speaks is true, the candidate announces itself: a message of this process could come too late
		g.estate.manager.ReadyFor(a.child.PID, fmt.Sprintf("serving, generation %d", a.nextGeneration()))
	}
	g.estate.manager.HandedOver()
}

// stopService begins the end of the whole service.
func (g *generation) stopService(d detail) {
	g.estate.listeners.UnlinkOnClose(true)
	g.announcer.stopping(d.err.Error())
	g.log.Info("upgrade: stopping", "reason", d.err)
	g.leave("stopping", d, &ending{reason: d.err.Error()})
}

// leave ends the calls beside the loop, and ends serve's context. The argument shown is the new state in Status. The argument
// why becomes the cause of the end of the context.
func (g *generation) leave(shown string, d detail, why *ending) {
	g.quitSuccession(d)
	g.acquiring.stop()
	g.taking.stop()
	g.shown.setState(shown)
	g.estate.room.drop()
	if why.handover {
		g.estate.listeners.UnlinkOnClose(false)
		g.estate.listeners.Pause(true)
		g.estate.listeners.EndEmptying()
		g.announcer.unfollow()
	}
	g.overrun.begin(&why.drains, g.estate.listeners, g.opts.StuckAfter, g.log)
	g.endServe(why)
	if shown == "aborted" && !g.accepted {
		g.estate.listeners.End() // Accept fails at once: no request is lost, because this process has accepted nothing
	}
}

// quitSuccession reports to the supervisor that this candidate will never be the service. In any other process it does nothing.
func (g *generation) quitSuccession(d detail) {
	if d.from.beforeService() && g.old.link != nil {
		g.estate.manager.HandedOver()
	}
}

// endWithServe ends a process whose serve has returned by itself. Bake and soak of a running attempt end at once.
func (g *generation) endWithServe(d detail) {
	g.quitSuccession(d)
	g.acquiring.stop()
	g.taking.stop()
	g.err = d.err
	g.shown.setState("stopping")
	if g.attempt != nil {
		g.attempt.commitNow()
	}
}

// noteServed notes the error of serve in a process that is about to end.
func (g *generation) noteServed(d detail) { g.err = cmp.Or(g.err, d.err) }

// closeOldLink closes the broken control socket to the old process as soon as no telling uses the socket.
func (g *generation) closeOldLink(detail) { g.tellings.closeAfter(g.old.link) }

// finish releases everything that this generation holds.
func (g *generation) finish() {
	stops := g.state == genStopping
	if waitWithin(&g.beside, sendWait) != nil {
		g.log.Warn("upgrade: this process ends, although a message to another process is not sent, or a file system does not answer")
	}
	written := g.retries.end(fileWait) // must come before removeFiles, because a retry would write a removed file again
	g.estate.release()
	g.estate.listeners.KeepClosed(false)
	g.estate.listeners.ReleaseAll()
	g.estate.removeFiles(stops, g.tellings.awaitFiles() && written)
	stopTableflip(g.tf)
	g.snapshot.drop()
	g.old.endHeartbeat()
	g.next.drop()
	g.estate.room.drop()
	g.history.elders.release()
	g.history.previous.release()
	if g.old.link != nil {
		g.old.link.Close()
	}
	g.successor.close()
	g.estate.broadcasts.Close()
	g.fire(onFinished, detail{})
	g.shown.setState("closed")
	if stops && g.err == nil {
		g.announcer.stopping("serve has returned")
		if g.estate.manager.SupervisorState() == "dead" {
			g.err = ErrUnsupervised
		}
	}
	g.announcer.leave()
	g.log.Info("upgrade: ended", "generation", g.origin.generation, "pid", os.Getpid())
}
