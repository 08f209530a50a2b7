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
// A candidate whose old process dies after the commit message is the service. Before that message, nothing has shown that its build is
// good, and the candidate accepts only so that no client is refused. Under the supervisor the candidate is an orphan then: it acquires
// nothing, writes no pid file, and accepts when its checks have passed. The supervisor starts the committed build, and sends each of the
// two a control socket to the other. When the committed build serves, it takes the orphan back, as the old process would have: idle
// connections and state go there. Without the supervisor no process takes the place of the old one: the candidate is the service, and
// says at ERROR and in Status that it was not committed.

// survive decides what a candidate is whose old process has died before the commit.
func (g *generation) survive(detail) {
	switch {
	case g.supervised && g.u.born.Kind == modeRehearsal.String():
		err := errors.New("the old process has died in a rehearsal")
		g.fire(onGaveUp, detail{phase: PhaseCheck, err: err})
	case g.supervised:
		g.fire(onOrphaned, detail{})
	default:
		g.accept(detail{})
		g.fire(onPromoted, detail{err: errors.New("the old process has died, and there is no supervisor")})
	}
}

// takeOver makes a candidate the service that has the commit message of a dead process.
func (g *generation) takeOver(d detail) {
	g.u.log.Warn("upgrade: the old process has died: taking over")
	g.accept(d)
	g.proceed(d)
}

// takenAlone goes on with what could be taken of the commit message of a dead process.
func (g *generation) takenAlone(d detail) {
	err := d.err
	if err == nil {
		err = g.u.listeners.BeginListening()
	}
	if err != nil {
		g.u.logServingAnyway(PhaseCommit, err)
	}
	g.proceed(d)
}

// serveAnyway goes on after a failed check: there is no other process.
func (g *generation) serveAnyway(d detail) {
	g.u.logServingAnyway(d.phase, d.err)
	g.proceed(d)
}

// becomeOrphan makes a candidate serve until the supervisor has started the committed build.
func (g *generation) becomeOrphan(d detail) {
	u, ready := g.u, g.checks == checksPassed
	u.setUncommitted()
	u.setState("orphan")
	u.log.Error("upgrade: the old process has died before it committed this one: serving until the supervisor has started the committed build", "prepared", ready)
	u.manager.Orphaned(u.opts.Version)
	if ready {
		g.accept(d)
	}
	g.useNext()
	atStep("new.orphaned")
}

// accept lets a process accept before it is the main generation, unless it needs a resource for that.
func (g *generation) accept(detail) {
	if g.u.resources.serving() {
		return
	}
	g.accepted = true
	g.u.listeners.Open(true)
	g.u.logInherited(g.u.elders.begin()) // older generations may pass connections on
}

// giveUpOrphan ends an orphan that could not serve: the supervisor starts the committed build.
func (g *generation) giveUpOrphan(d detail) {
	g.u.logGivenUp(d.phase, d.err)
	g.err = &Error{Phase: d.phase, Reason: d.err.Error(), Err: d.err}
	g.leave("aborted", d, &ending{reason: d.err.Error(), handover: true})
}

// leaveToCommitted stops an orphan. The committed build is about to serve.
func (g *generation) leaveToCommitted(d detail) {
	g.u.log.Info("upgrade: stopping", "reason", d.err)
	g.leave("stopping", d, &ending{reason: d.err.Error(), handover: true})
}

// promote makes a candidate the service that was never committed.
func (g *generation) promote(d detail) {
	g.u.setUncommitted()
	g.u.log.Error("upgrade: this process is the service although nobody has committed it", "why", d.err.Error(), "version", g.u.opts.Version)
	g.proceed(d)
}

// confirmed promotes an orphan.
func (g *generation) confirmed(detail) {
	g.fire(onPromoted, detail{err: errors.New("the supervisor cannot start the committed build")})
}

// outliveNext handles the death of the process that was started in place of an orphan. The supervisor starts another one.
func (g *generation) outliveNext(detail) {
	if !g.supervised {
		g.fire(onPromoted, detail{err: errors.New("the old process, the supervisor and the committed build that was started have died")})
	}
}

// outliveSupervisor handles the death of the supervisor in an orphan. One that has a control socket to the committed build leaves the
// decision to that process, which serves or dies.
func (g *generation) outliveSupervisor(detail) {
	if g.fromOld == nil {
		g.fire(onPromoted, detail{err: errors.New("the old process and the supervisor have died")})
	}
}

// hearSupervisor handles a message of the supervisor, or its end.
func (g *generation) hearSupervisor(m sdnotify.Message, ok bool) {
	if !ok {
		g.supervised = false
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
	}
}

const unsupervisedText = "upgrade: the supervisor has ended: nobody starts the service again after a crash"

// logUnsupervised logs the death of the supervisor.
func (g *generation) logUnsupervised(detail) { g.u.log.Error(unsupervisedText) }

// keepNext takes the control socket to the process that the supervisor starts in place of this one. An orphan uses the socket at once,
// and a candidate when it becomes an orphan.
func (g *generation) keepNext(d detail) {
	if g.u.parent == nil { // of tableflip
		return
	}
	if err := g.next.take(d.word.Files); err != nil {
		g.u.log.Error("upgrade: idle connections and state will be lost: no control socket to the process that is started", "err", err)
		return
	}
	if g.state == genOrphan {
		g.useNext()
	}
}

// useNext makes the process that is started in place of an orphan the one that may take the orphan back.
func (g *generation) useNext() {
	l := g.next.use()
	if l == nil {
		return
	}
	g.u.parent.Close()
	g.u.parent, g.fromOld = l, l.Frames
	g.old.takes = nil // that process sends its own
}

// meetOrphan begins to take what an orphan gives to this process, which sends the orphan away when it serves.
func (g *generation) meetOrphan(d detail) {
	g.u.logInherited(g.u.followOrphan(d.word))
	if g.state == genServing {
		g.dismissOrphans()
	}
}

// dismissOrphans begins to send orphans away, each once.
func (g *generation) dismissOrphans() {
	orphans := g.u.elders.dismissed()
	g.beside.Go(func() { g.u.dismiss(orphans) })
}

// keepForOld keeps the listeners open until the process ends, in case the old process dies first. Connections go back as the server
// drains.
func (g *generation) keepForOld() {
	g.u.publisher.Store(nil)
	g.u.sendBack(g.old.takes, 0, 0)
	g.u.listeners.KeepClosed(true)
}

// takenBack ends a candidate that the old process does not want.
func (g *generation) takenBack(d detail) {
	g.keepForOld()
	g.leaveAborted(d, "taken back by the old process: "+d.err.Error())
}

// stopWithParent ends a candidate whose old process stops with the whole service: the candidate does not go on alone.
func (g *generation) stopWithParent(d detail) {
	g.takenBack(d)
	g.forgetOld(d)
}

// dismissed ends an orphan in whose place another process serves. That process is sent the state even if the orphan has not accepted: it
// is worth more than nothing.
func (g *generation) dismissed(d detail) {
	d.phase, g.accepted, g.late = g.phase(), true, g.u.parent
	g.keepForOld()
	g.leaveAborted(d, d.err.Error())
}

func (g *generation) leaveAborted(d detail, reason string) {
	g.err = &Error{Phase: d.phase, Reason: reason, Err: ErrAborted}
	atStep("new.aborted")
	g.leave("aborted", d, &ending{reason: "taken back", handover: true})
}

// forgetOld ends what an aborted candidate keeps for the old process, which stops with the whole service.
func (g *generation) forgetOld(detail) {
	g.u.setMover(nil) // the old process would not read what is sent back
	g.u.listeners.KeepClosed(false)
}

// giveBack begins to write the kept values of a candidate that has served to a file, for the old process. This process waits until it is
// sure that the old process lives.
func (g *generation) giveBack(d detail) {
	g.noteServed(d)
	if !g.accepted {
		g.sendState(detail{})
		return
	}
	g.snapshot = g.u.startSnapshot(g.u.opts.Timeout)
}

// sendState sends the kept values to the old process. If that fails, the end of the socket is the next event; and the old process lets
// this one not wait for ever.
func (g *generation) sendState(d detail) {
	if d.err != nil {
		g.u.log.Error("upgrade: cannot give the state back", "err", d.err)
	}
	old, state := g.u.parent, d.state
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

// dropState closes the kept values that no process is to get any more.
func (g *generation) dropState(d detail) { d.state.Close() } // which does nothing without a file

// outliveOld handles the death of a process that has taken this one back. Without a supervisor this process starts a fresh one; with it,
// the supervisor does.
func (g *generation) outliveOld(detail) {
	switch {
	case g.supervised:
		g.u.log.Warn("upgrade: the process that took this one back has died: what this one would give back is lost")
		g.fire(onGaveUp, detail{})
	case g.late != nil: // the process that serves by now is not of this one
		g.fire(onGaveUp, detail{})
	default:
		g.fire(onRevive, detail{})
	}
}

// revive starts a fresh process of the committed build.
func (g *generation) revive(detail) {
	g.u.log.Warn("upgrade: the old process has died after it took this one back: starting anew")
	g.memory.spare(g.u.log) // what is started inherits the value
	g.begin(newAttempt(context.Background(), g.u, modeRevive), nil)
}

// passConn passes a connection on that has come late, to the process that serves.
func (g *generation) passConn(d detail) {
	var about wire.ConnBody
	if d.frame.Decode(&about) != nil {
		return
	}
	switch kept := len(d.frame.Files) > 0; {
	case kept && g.late != nil:
		to, file := g.late, d.frame.Files[0]
		d.frame.Files[0] = nil // the goroutine closes it
		g.beside.Go(func() {
			defer file.Close()
			if !handoff.SendLate(to, about, file) {
				g.u.log.Error("upgrade: a connection is lost that came late: the process that serves does not take it")
			}
		})
	case !g.old.sharing.Refuse(about.Slot) && !kept:
		g.u.log.Error("upgrade: a connection is lost that another generation has passed on", "err", wire.ErrMissing)
	}
}

// hearSuccessor handles a message of the process that has taken over, or of a later one that has its socket.
func (g *generation) hearSuccessor(f wire.Frame, ok bool) {
	if !ok {
		g.successor.frames = nil
		return
	}
	defer f.Close()
	switch f.Kind {
	case wire.KindConn: // sent back too late: the process that serves now gets it
		g.fire(onConn, detail{frame: f})
	case wire.KindHurry:
		g.u.log.Info("upgrade: there are too many generations: idle connections are closed", "generation", g.u.generation)
		g.u.hurryOnce.Do(func() { close(g.u.hurry) })
	}
}

// hearElder handles a message of an older generation.
func (g *generation) hearElder(f wire.Frame) {
	defer f.Close()
	if f.Kind == wire.KindConn {
		g.fire(onConn, detail{frame: f})
	}
}

// rest handles what older generations had sent before they were left to the successor.
func (g *generation) rest() {
	if !g.successor.reads {
		return
	}
	for g.fromOld != nil {
		f, ok := <-g.fromOld
		g.hearOld(f, ok)
	}
	g.u.elders.rest(g.hearElder)
}

// passStop passes a stop on that was sent before the pid file named the successor.
func (g *generation) passStop(detail) { g.successor.signalEarly(syscall.SIGTERM) }

// passHangup passes a SIGHUP on that was sent before the pid file named the successor.
func (g *generation) passHangup(detail) { g.successor.signalEarly(syscall.SIGHUP) }

// refuseEarly answers a call of a program that does not serve yet.
func (g *generation) refuseEarly(d detail) {
	d.request.reply <- fmt.Errorf("%w: this process does not serve yet", ErrNotReady)
}

// refuseLate answers a call of a program that does not serve any more.
func (g *generation) refuseLate(d detail) { d.request.reply <- ErrClosed }

// upgradeOnHangup does what SIGHUP asks for, now or when it is possible.
func (g *generation) upgradeOnHangup(d detail) {
	g.remember(d)
	g.upgradeAgain()
}

// upgradeAgain begins an upgrade that SIGHUP has asked for, if it is possible now.
func (g *generation) upgradeAgain() {
	switch {
	case !g.again || g.state != genServing:
	case g.u.tf == nil:
		g.again = false
		g.u.log.Error("upgrade: cannot do what SIGHUP asks for", "err", ErrNotSupported)
	case g.attempt == nil:
		g.again = false
		g.begin(newAttempt(context.Background(), g.u, modeHangup), nil)
	case g.attempt.remember():
		g.again = false
	}
}

// extend asks the service manager for time.
func (g *generation) extend(detail) { g.watchdog.extend(g.u.manager) }

// showLife tells the service manager that the loop goes round. During an attempt it asks for time. A stop gets the time that the manager
// gives by itself: the operator of the service has set that.
func (g *generation) showLife(d detail) {
	g.watchdog.alive(g.u.manager)
	if g.attempt != nil {
		g.extend(d)
	}
}
