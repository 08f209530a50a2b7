package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The actions of a generation after the death of another one, after an abort, and after the handover.
//
// A candidate whose old process dies after the commit message is the service. If the old process dies before the commit
// message, nothing has shown that the candidate's build is good. With a supervisor the candidate then becomes an orphan, so
// that no client is refused: an orphan accepts when its checks have passed, but acquires no exclusive resource and writes no
// pid file. The supervisor starts the committed build, and connects the new process and the orphan by a control socket. When
// the new process serves, it takes the orphan back, as an old process takes back a candidate: the orphan's idle connections and
// kept values go to the new process. Without a supervisor no process is started: the candidate is the service, and the log
// (level ERROR) and Status show that the build was not committed.

// survive decides what becomes of a candidate whose old process has died before the commit.
func (g *generation) survive(detail) {
	switch {
	case g.supervised && g.origin.born.Kind == modeRehearsal.String():
		err := errors.New("the old process has died in a rehearsal")
		g.fire(onGaveUp, detail{phase: PhaseCheck, err: err})
	case g.supervised:
		g.fire(onOrphaned, detail{})
	default:
		g.accept(detail{})
		g.fire(onPromoted, detail{err: errors.New("the old process has died, and there is no supervisor")})
	}
}

// takeOver makes this candidate serve, because the old process has died after the commit message.
func (g *generation) takeOver(d detail) {
	g.log.Warn("upgrade: the old process has died: taking over")
	g.accept(d)
	g.proceed(d)
}

// takenAlone makes this process serve, even if a kept value or a resource could not be taken: no other process could serve.
func (g *generation) takenAlone(d detail) {
	err := d.err
	if err == nil {
		err = g.estate.listeners.BeginListening()
	}
	if err != nil {
		logServingAnyway(g.log, PhaseCommit, err)
	}
	g.proceed(d)
}

// serveAnyway makes this process serve despite a failed check, because there is no other process.
func (g *generation) serveAnyway(d detail) {
	logServingAnyway(g.log, d.phase, d.err)
	g.proceed(d)
}

// becomeOrphan handles the change from a candidate to an orphan. An orphan accepts as soon as its checks have passed.
func (g *generation) becomeOrphan(d detail) {
	ready := g.result == checksPassed
	g.shown.setUncommitted()
	g.shown.setState("orphan")
	g.log.Error("upgrade: the old process has died before it committed this one: serving until the supervisor has started the committed build", "prepared", ready)
	g.estate.manager.Orphaned(g.opts.Version)
	if ready {
		g.accept(d)
	}
	g.useNext()
	atStep("new.orphaned")
}

// accept begins to accept before this process is the main generation, unless serving needs an exclusive resource.
func (g *generation) accept(detail) {
	if g.estate.resources.serving() {
		return
	}
	g.accepted = true
	g.estate.listeners.Open(true)
	logInherited(g.log, g.history.elders.begin()) // begins to read the connections that older generations pass
}

// giveUpOrphan ends a process that will not serve after its old process has died. The supervisor starts the committed build.
func (g *generation) giveUpOrphan(d detail) {
	g.log.Error("upgrade: the old process has died, and this one does not serve: the supervisor starts the committed build",
		"phase", d.phase, "err", d.err)
	g.err = &Error{Phase: d.phase, Reason: d.err.Error(), Err: d.err}
	g.leave("aborted", d, &ending{reason: d.err.Error(), handover: true})
}

// cannotServe ends a process that could not acquire an exclusive resource.
func (g *generation) cannotServe(d detail) {
	g.err = fmt.Errorf("upgrade: %w", d.err)
	g.log.Error("upgrade: cannot serve without it", "err", d.err)
	g.leave("stopping", d, &ending{reason: d.err.Error()})
}

// leaveToCommitted ends an orphan that was asked to stop: the committed build is about to serve.
func (g *generation) leaveToCommitted(d detail) {
	g.log.Info("upgrade: stopping", "reason", d.err)
	g.leave("stopping", d, &ending{reason: d.err.Error(), handover: true})
}

// promote makes an uncommitted candidate the service.
func (g *generation) promote(d detail) {
	g.shown.setUncommitted()
	g.log.Error("upgrade: this process is the service although nobody has committed it", "why", d.err.Error(), "version", g.opts.Version)
	g.proceed(d)
}

// confirmed promotes an orphan, because the supervisor cannot start the committed build.
func (g *generation) confirmed(detail) {
	g.fire(onPromoted, detail{err: errors.New("the supervisor cannot start the committed build")})
}

// outliveNext handles the death of the process that was to replace this orphan. A living supervisor starts another such
// process. If the supervisor is dead, this orphan becomes the service.
func (g *generation) outliveNext(detail) {
	if !g.supervised {
		g.fire(onPromoted, detail{err: errors.New("the old process, the supervisor and the committed build that was started have died")})
	}
}

// outliveSupervisor handles the death of the supervisor in an orphan. If a process that will replace the orphan is connected
// already, the orphan waits until that process serves or dies. Otherwise the orphan becomes the service.
func (g *generation) outliveSupervisor(detail) {
	if g.fromOld == nil {
		g.fire(onPromoted, detail{err: errors.New("the old process and the supervisor have died")})
	}
}

// receiveSupervisor handles a message of the supervisor, or the supervisor's death.
func (g *generation) receiveSupervisor(m sdnotify.Message, ok bool) {
	if !ok {
		g.fromSupervisor, g.supervised = nil, false
		g.fire(onNoSupervisor, detail{})
		return
	}
	defer m.Close()
	d := detail{word: m}
	switch {
	case m.Has(sdnotify.WordConfirmed):
		g.fire(onConfirmed, d)
	case m.Has(sdnotify.WordSuccessor):
		g.fire(onNextSocket, d)
	case m.Has(sdnotify.WordOrphan):
		g.fire(onOrphanSocket, d)
	case m.Has(sdnotify.WordBroadcast):
		g.estate.joinIntroduced(m)
	}
}

func (g *generation) logUnsupervised(detail) { g.log.Error(unsupervisedText) }

// keepNext takes a control socket from the supervisor. The socket leads to the process that will replace this orphan. A
// candidate only stores the socket, because it may become an orphan later.
func (g *generation) keepNext(d detail) {
	if g.old.link == nil { // the old process uses tableflip only
		return
	}
	if err := g.next.take(d.word.Files); err != nil {
		g.log.Error("upgrade: idle connections and state will be lost: no control socket to the process that is started", "err", err)
		return
	}
	if g.state == genOrphan {
		g.useNext()
	}
}

// useNext uses the socket of keepNext, if there is one. From now on the process at its other end may take this orphan back.
func (g *generation) useNext() {
	l := g.next.use()
	if l == nil {
		return
	}
	g.old.link.Close()
	g.old.link, g.fromOld = l, l.Frames
	g.old.takes = nil // the list is from the dead old process; the replacing process sends its own list
}

// meetOrphan begins to read the messages of an orphan. If this process already serves, it also sends the orphan away.
func (g *generation) meetOrphan(d detail) {
	logInherited(g.log, g.history.elders.followOrphan(d.word))
	if g.state == genServing {
		g.dismissOrphans()
	}
}

// dismissOrphans begins to send the known orphans away. It sends each orphan away only once.
func (g *generation) dismissOrphans() {
	orphans := g.history.elders.dismissed()
	g.beside.Go(func() { dismiss(orphans, g.estate.listeners, g.log) })
}

// keepForOld prepares the return to the old process. Sockets of closed listeners stay open until this process ends, in case the
// old process dies first. While the server drains, its idle connections go back to the old process.
func (g *generation) keepForOld() {
	g.traffic.publisher.Store(nil)
	g.traffic.setMover(g.old.returner(g.opts.choice(), 0, 0))
	g.estate.listeners.KeepClosed(true)
}

// takenBack ends a candidate that the old process takes back.
func (g *generation) takenBack(d detail) {
	g.keepForOld()
	g.leaveAborted(d, "taken back by the old process: "+d.err.Error())
}

// stopWithParent ends a candidate because the whole service stops. In this case the candidate must not become the service.
func (g *generation) stopWithParent(d detail) {
	g.takenBack(d)
	g.forgetOld(d)
}

// dismissed ends an orphan because another process serves in its place. The field accepted is set to true, because otherwise
// giveBack would send no kept values. Even the values of an orphan that has accepted nothing are better than none.
func (g *generation) dismissed(d detail) {
	d.phase, g.accepted, g.late = g.phase(), true, g.old.link
	g.keepForOld()
	g.leaveAborted(d, d.err.Error())
}

func (g *generation) leaveAborted(d detail, reason string) {
	g.err = &Error{Phase: d.phase, Reason: reason, Err: ErrAborted}
	atStep("new.aborted")
	g.leave("aborted", d, &ending{reason: "taken back", handover: true})
}

// forgetOld drops the sockets that an aborted candidate keeps for the old process, because the whole service stops.
func (g *generation) forgetOld(detail) {
	g.traffic.setMover(nil) // the old process reads no messages any more
	g.estate.listeners.KeepClosed(false)
}

// giveBack begins to write the kept values to a file for the old process. If this process has accepted nothing, giveBack sends
// a message without values instead. In both cases this process then waits for the answer or the death of the old process.
func (g *generation) giveBack(d detail) {
	g.noteServed(d)
	if !g.accepted {
		g.sendState(detail{})
		return
	}
	g.snapshot = startSnapshot(g.estate.keeper, g.opts.Timeout)
}

// sendState sends the kept values to the old process. If the sending fails, the loop soon sees the end of the socket. If the
// sending takes too long, the old process kills this candidate.
func (g *generation) sendState(d detail) {
	if d.err != nil {
		g.log.Error("upgrade: cannot give the state back", "err", d.err)
	}
	old, state := g.old.link, d.state
	g.beside.Go(func() {
		var files []*os.File
		if state != nil {
			defer state.Close()
			files = append(files, state)
		}
		_ = old.Send(wire.KindReturned, nil, files...)
		atStep("new.returned")
	})
}

func (g *generation) dropState(d detail) { d.state.Close() } // does nothing if state is nil

// outliveOld handles the death of the process that has taken this process back. A candidate without a supervisor starts a new
// process of the committed build.
func (g *generation) outliveOld(detail) {
	switch {
	case g.supervised:
		g.log.Warn("upgrade: the process that took this one back has died: what this one would give back is lost")
		g.fire(onGaveUp, detail{})
	case g.late != nil: // this process is a dismissed orphan, which starts no process
		g.fire(onGaveUp, detail{})
	default:
		g.fire(onRevive, detail{})
	}
}

// revive starts a new process of the committed build, see choose.
func (g *generation) revive(detail) {
	g.log.Warn("upgrade: the old process has died after it took this one back: starting anew")
	g.memory.spare(g.log) // restores oom_score_adj, because the new process inherits the value
	g.begin(newAttempt(context.Background(), g.parts, modeRevive), nil)
}

// passConn handles a connection that came too late to be served here: it passes the connection on to the process that serves.
func (g *generation) passConn(d detail) {
	var about wire.ConnBody
	if d.frame.Decode(&about) != nil {
		return
	}
	switch kept := len(d.frame.Files) > 0; {
	case kept && g.late != nil:
		to, file := g.late, d.frame.Files[0]
		d.frame.Files[0] = nil // the goroutine below closes the file
		g.beside.Go(func() {
			defer file.Close()
			if !handoff.SendLate(to, about, file) {
				g.log.Error("upgrade: a connection is lost that came late: the process that serves does not take it")
			}
		})
	case !g.old.sharing.Refuse(about.Slot) && !kept:
		g.log.Error("upgrade: a connection is lost that another generation has passed on", "err", wire.ErrMissing)
	}
}

// receiveSuccessor handles a message of the successor or of a later generation. Both write to the same socket.
func (g *generation) receiveSuccessor(f wire.Frame, ok bool) {
	if !ok {
		g.successor.frames = nil
		return
	}
	defer f.Close()
	switch f.Kind {
	case wire.KindConn: // a connection that has come back after the handover
		g.fire(onConn, detail{frame: f})
	case wire.KindHurry:
		g.log.Info("upgrade: there are too many generations: idle connections are closed", "generation", g.origin.generation)
		g.traffic.closeIdle()
	}
}

func (g *generation) receiveElder(f wire.Frame) {
	defer f.Close()
	if f.Kind == wire.KindConn {
		g.fire(onConn, detail{frame: f})
	}
}

// elderGone handles the end of an older generation.
func (g *generation) elderGone(e *elder) {
	g.history.elders.forget(e)
	g.goers.add(e.PID)
}

// rest handles the messages of older generations that had come before the successor began to read the control sockets.
func (g *generation) rest() {
	if !g.successor.reads {
		return
	}
	for g.fromOld != nil {
		f, ok := <-g.fromOld
		g.receiveOld(f, ok)
	}
	g.history.elders.rest(g.receiveElder, g.successor.child.link.Answers())
}

// passStop passes a stop on to the successor as SIGTERM, but only right after the handover: see signalEarly.
func (g *generation) passStop(detail) { g.successor.signalEarly(syscall.SIGTERM) }

// passHangup passes a SIGHUP on to the successor, but only right after the handover: see signalEarly.
func (g *generation) passHangup(detail) { g.successor.signalEarly(syscall.SIGHUP) }

// refuseEarly answers a request that came before this process is the main generation.
func (g *generation) refuseEarly(d detail) {
	d.request.reply <- fmt.Errorf("%w: this process does not serve yet", ErrNotReady)
}

// refuseLate answers a request that came when this process is about to end.
func (g *generation) refuseLate(d detail) { d.request.reply <- ErrClosed }

// upgradeOnHangup begins the upgrade that SIGHUP asks for, at once or as soon as an upgrade can begin.
func (g *generation) upgradeOnHangup(d detail) {
	g.remember(d)
	g.upgradeAgain()
}

// upgradeAgain begins an upgrade if SIGHUP has asked for one. If an attempt is running, the attempt notes the request. But late
// in an attempt this is not possible: then the request stays noted in g.again until the attempt has ended.
func (g *generation) upgradeAgain() {
	switch {
	case !g.again || g.state != genServing:
	case g.tf == nil:
		g.again = false
		g.log.Error("upgrade: cannot do what SIGHUP asks for", "err", ErrNotSupported)
	case g.attempt == nil:
		g.again = false
		g.begin(newAttempt(context.Background(), g.parts, modeHangup), nil)
	case g.attempt.remember():
		g.again = false
	}
}

// extend asks the service manager for more time.
func (g *generation) extend(detail) { g.watchdog.extend(g.estate.manager) }

// showLife sends a sign of life to the service manager. During an attempt it also requests more time. At other times it must
// not do so: a stop should take no longer than the operator has set in the manager.
func (g *generation) showLife(d detail) {
	g.watchdog.alive(g.estate.manager)
	if g.attempt != nil {
		g.extend(d)
	}
}
