package upgrade

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A generation as the successor of another one: the actions of a candidate, from the messages of the old process to the commit.
// The actions after an abort and after the death of the old process are in survivor.go.

// receiveOld handles a message of the old process. If ok is false, it handles the end of the control socket.
func (g *generation) receiveOld(f wire.Frame, ok bool) {
	if !ok {
		g.oldEnded()
		return
	}
	defer f.Close()
	if f.Kind == wire.KindNamed {
		g.named()
		return
	}
	e, known := oldEvents[f.Kind]
	if !known {
		return
	}
	d := detail{frame: f, phase: g.phase()}
	if e == onAbort {
		var body wire.AbortBody
		if err := f.Decode(&body); err == nil && body.Stopping {
			e = onAbortStopping
		}
		d.err = errors.New(body.Reason)
	}
	g.fire(e, d)
}

// oldEnded handles the end of the control socket: the old process has died, unless the link itself is broken.
func (g *generation) oldEnded() {
	g.fromOld = nil
	g.named()
	if elder := g.origin.elder; elder != nil {
		g.history.elders.remove(elder)
		g.goers.add(elder.PID)
	}
	g.old.endHeartbeat()
	g.old.sharing.End()
	if broken := g.old.link.Broken; broken != nil {
		g.log.Error("upgrade: lost the control socket", "err", broken)
		g.fire(onLinkBroken, detail{phase: g.phase(), err: broken})
		return
	}
	g.fire(onOldDied, detail{})
	if elder := g.origin.elder; elder != nil {
		g.beside.Go(func() { g.estate.pid.Discard(elder.PID) }) // removes the staged pid file of an old process that was killed
	}
}

// phase returns the phase that is named if this candidate fails.
func (g *generation) phase() Phase {
	if g.accepted {
		return PhaseSoak
	}
	return PhaseCheck
}

// receiveMessage handles a message of the old process to a candidate.
func (g *generation) receiveMessage(d detail) {
	f, old := d.frame, g.old.link
	switch f.Kind {
	case wire.KindShare:
		if err := g.old.share(f); err != nil {
			g.fire(onFailed, detail{phase: PhaseBake, err: err})
			return
		}
		g.accepted = true
	case wire.KindTakes:
		logInherited(g.log, g.old.takes.Hear(f))
	case wire.KindWeight:
		var w wire.WeightBody
		if f.Decode(&w) == nil {
			g.traffic.setMover(g.old.returner(g.opts.choice(), w.From, w.To))
			g.traffic.offer()
		}
	case wire.KindShut:
		g.estate.listeners.Pause(true)
	case wire.KindDial:
		reply := serveDialed(g.estate.listeners, f)
		g.beside.Go(func() { _ = old.Send(wire.KindDialed, reply) }) // no answer is needed if the old process is dead
	case wire.KindPrevious:
		logInherited(g.log, g.history.previous.receive(f))
	case wire.KindElder:
		logInherited(g.log, g.history.elders.adopt(f))
	case wire.KindOpen:
		g.accepted = true
		g.estate.listeners.Open(false)
		atStep("new.opened")
	}
}

// takeConn takes a connection from another generation. If the descriptor is missing, a candidate fails: perhaps it has too many
// open files. Then it could not receive the files of the commit message either.
func (g *generation) takeConn(d detail) {
	var about wire.ConnBody
	if d.frame.Decode(&about) != nil {
		return
	}
	if len(d.frame.Files) > 0 {
		if handoff.GiveMoved(g.estate.listeners, about, d.frame.Files[0], g.old.sharing) != nil {
			g.old.sharing.Refuse(about.Slot) // the connection is lost, unless the old process has kept a descriptor for it
		}
		return
	}
	kept := g.old.sharing.Refuse(about.Slot)
	switch {
	case d.from == genCandidate || d.from == genCommitting:
		g.fire(onFailed, detail{phase: PhaseBake, err: wire.ErrMissing})
	case !kept:
		g.log.Error("upgrade: a connection is lost that another generation has passed on", "err", wire.ErrMissing)
	}
}

// remember notes that SIGHUP has asked for an upgrade.
func (g *generation) remember(detail) { g.again = true }

// checksFailed handles a failed check of a candidate. If no other process serves, the candidate goes on nevertheless.
func (g *generation) checksFailed(d detail) {
	if !g.origin.only {
		g.fire(onFailed, d)
		return
	}
	logServingAnyway(g.log, d.phase, d.err)
	g.result = checksPassed
	g.reportPrepared(d)
}

// reportPrepared notifies the old process that the checks have passed. If the old process uses tableflip only, it gets no
// message, and the candidate proceeds at once.
func (g *generation) reportPrepared(d detail) {
	if g.origin.old == oldTableflip {
		g.proceed(d)
		return
	}
	atStep("new.prepare")
	old := g.old.link
	g.beside.Go(func() {
		_ = handoff.SendTakes(old, g.estate.listeners) // if a message fails, the loop sees the end of the socket
		if old.Send(wire.KindPrepared, wire.PreparedBody{Exclusive: g.estate.resources.serving(), Beside: g.estate.listeners.Beside()}) == nil {
			atStep("new.prepared")
		}
	})
}

// proceed makes this process the service. If there are exclusive resources, proceed only begins to acquire the resources. While
// the checks run or kept values are being taken, proceed does nothing: it is called again afterwards.
func (g *generation) proceed(detail) {
	switch {
	case g.result == checksRun || g.taking != nil:
	case len(g.estate.resources.list()) > 0:
		g.fire(onNeeds, detail{})
	default:
		g.serveNow()
	}
}

// serveNow makes this process the service. It must be called only if no old process waits for the message serving.
func (g *generation) serveNow() {
	g.fire(onServes, detail{})
	g.write(&telling{first: true})
}

// write begins to write the files of a new main generation. When they are written, the loop fires onWritten.
func (g *generation) write(t *telling) {
	if g.origin.systemd && g.fromOld != nil { // the old process has to name this process to systemd first
		g.naming.begin()
	}
	if t.serving != nil {
		t.serving.Since = g.naming.since
	}
	g.tellings.write(g.parts, t)
}

// announce announces this process to the service manager after the files are written, and begins to send the other messages.
// If the old process has to name this process to systemd first, announceNamed sends the announcement instead.
func (g *generation) announce(d detail) {
	t := d.telling
	t.announced = g.estate.manager != nil && g.naming.since == 0
	if t.later = t.later && t.announced; t.announced {
		t.forgotten = g.announcer.announce(t.later)
	}
	if g.tell(t); g.attempt != nil && !g.naming.waits() {
		g.reloading(g.attempt)
	}
	if !resumeStop(g) {
		g.upgradeAgain()
	}
}

// dropWritten ends a telling after its files were written, because this process is not the main generation any more.
func (g *generation) dropWritten(d detail) {
	g.dropTold(d)
	g.tellings.remove(d.telling, &g.naming)
}

// tell begins to send the messages of a telling.
func (g *generation) tell(t *telling) { g.tellings.begin(g.parts, g.old.link, t) }

func (g *generation) hasTold(t *telling) {
	g.fire(onTold, detail{telling: t})
	g.tellings.remove(t, &g.naming)
}

// completeTold closes the sockets that were needed until the messages of the telling were sent. If later is true, completeTold
// begins another telling with the messages of keepRest.
func (g *generation) completeTold(d detail) {
	t := d.telling
	if t.serving != nil && g.fromOld == nil { // no more messages come from the old process
		g.old.link.Close()
	}
	if t.later {
		g.tell(&telling{forgotten: g.announcer.keepRest()})
	}
	t.end(g.estate.listeners, true)
	if t.serving != nil {
		atStep("new.serving")
	}
}

// dropTold closes the sockets of a telling in a process that is not the main generation any more.
func (g *generation) dropTold(d detail) { d.telling.end(g.estate.listeners, false) }

// acquire begins to acquire the exclusive resources.
func (g *generation) acquire(detail) {
	g.acquiring = startCall(g.opts.Timeout, g.estate.acquire)
}

// acquired makes this process the service after the exclusive resources were acquired.
func (g *generation) acquired(detail) { g.serveNow() }

// takeCommit begins to take the kept values of the commit message, and then to acquire the exclusive resources.
func (g *generation) takeCommit(d detail) {
	var err error
	if g.taking, err = startTaking(&g.estate, g.origin.limit, d.frame); g.taking.call == nil {
		g.taken(err)
	}
}

// taken handles the result of taking the kept values and the resources.
func (g *generation) taken(err error) {
	t := g.taking
	g.taking = nil
	t.stop()
	g.again = g.again || t.again
	g.fire(either(err, onTaken, onTakeFailed), detail{phase: PhaseCommit, err: err})
}

// completeCommit makes the candidate the service. The telling sends the message serving to the old process.
func (g *generation) completeCommit(d detail) {
	if err := g.estate.listeners.BeginListening(); err != nil {
		g.fire(onFailed, detail{phase: PhaseCommit, err: err})
		return
	}
	drop := g.estate.listeners.ClaimRest(g.origin.paths)
	g.fire(onServes, d)
	g.write(&telling{first: true, later: true, serving: new(wire.ServingBody), drop: drop})
}

// becomeMain makes this generation the service: this is the commit. The message serving is sent to the old process only later:
// the message gives the old process work to do, and that work would take processor time from the first requests here.
func (g *generation) becomeMain(d detail) {
	alone := d.from != genCommitting && g.origin.old != oldTableflip
	g.traffic.publisher.Store(nil)
	g.traffic.setMover(nil)
	if g.old.link != nil {
		g.old.link.AllowMissing(false) // from now on the old process keeps no copies of the connections that it passes
	}
	g.estate.listeners.UnlinkOnClose(true)
	if g.tf != nil {
		g.estate.room.fill(g.estate.listeners.Len())
	}
	if err := g.estate.listeners.BeginListening(); err != nil {
		g.log.Error("upgrade: a socket does not listen", "err", err)
	}
	g.estate.listeners.Open(true)
	g.memory.spare(g.log)
	atStep("new.commit")
	if g.tf != nil {
		if err := g.tf.Ready(); err != nil && !alone {
			g.log.Warn("upgrade: the old process did not hear of the commit", "err", err)
		}
	}
	atStep("new.ready")
	g.estate.listeners.ListenAgain()
	if alone {
		g.estate.listeners.DropRest()
	}
	g.estate.keeper.Forget()
	if g.origin.elder != nil {
		_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	}
	logInherited(g.log, g.history.elders.begin())
	g.dismissOrphans()
	if g.estate.manager.SupervisorState() == "dead" {
		g.log.Error(unsupervisedText)
	}
	if elder := g.origin.elder; elder != nil && g.fromOld != nil {
		g.history.elders.add(elder)
	}
}

// named ends the wait for the old process to name this process to systemd.
func (g *generation) named() {
	if g.naming.end() {
		g.fire(onNamed, detail{})
		g.tellings.settle(&g.naming)
	}
}

// announceNamed announces this process to the service manager at the end of the wait in g.naming.
func (g *generation) announceNamed(detail) {
	g.tell(&telling{announced: true, forgotten: g.announcer.announce(false)})
	if g.attempt != nil {
		g.reloading(g.attempt)
	}
}

// stopCandidate lets the upgrade fail, because this candidate has to stop. If the old process is dead, the service stops.
func (g *generation) stopCandidate(d detail) {
	g.fire(onFailed, detail{phase: g.phase(), err: fmt.Errorf("%w: the candidate was told to stop: %w", ErrAborted, d.err)})
	if !g.state.leaves() {
		g.stop(d.err) // the old process has died: this process has become the service, or is about to
	}
}

// servedEarly lets the upgrade fail, because serve has returned too early. If the old process is dead, the service ends.
func (g *generation) servedEarly(d detail) {
	if d.err == nil {
		d.err = errors.New("serve returned before the commit")
	}
	g.fire(onFailed, detail{phase: PhaseStart, err: d.err})
	if !g.state.leaves() {
		g.fire(onServed, d)
	}
}

// fail sends the old process the reason why this candidate has failed. Afterwards the candidate behaves as after an abort.
func (g *generation) fail(d detail) {
	if g.old.link == nil { // the old process uses tableflip only
		g.fire(onCut, d)
		return
	}
	body := wire.FailedBody{Phase: string(d.phase), Reason: wire.Clip(d.err.Error()), Aborted: errors.Is(d.err, ErrAborted)}
	sent := g.old.link.TrySend(wire.KindFailed, body, nil, failedWait)
	if errors.Is(sent, errors.ErrUnsupported) {
		sent = g.old.link.Send(wire.KindFailed, body)
	}
	if wire.Gone(sent) {
		g.failUnheard(d)
		return
	}
	if sent != nil {
		g.log.Error("upgrade: cannot tell the old process what is wrong", "err", sent)
	}
	if g.fromOld == nil { // the socket is broken
		g.fire(onCut, d)
		return
	}
	g.fire(onReported, d)
}

// failUnheard handles a failure after the death of the old process. It first handles unread messages, such as the commit.
func (g *generation) failUnheard(d detail) {
	from := g.state
	for old := g.fromOld; old != nil && g.fromOld == old && g.state.beforeService(); {
		f, ok := <-old
		g.receiveOld(f, ok)
	}
	if g.state == from { // the end of the socket was read before this call, so the messages have not led to onOldDied
		g.fire(onOldDied, detail{})
	}
	switch {
	case g.state == genOrphan:
		g.fire(onGaveUp, d)
	case !g.state.leaves() && !errors.Is(d.err, ErrAborted):
		logServingAnyway(g.log, d.phase, d.err)
	}
}

// leaveFailed ends a failed candidate.
func (g *generation) leaveFailed(d detail) {
	if g.old.link != nil {
		g.keepForOld()
	}
	atStep("new.failed")
	g.err = &Error{Phase: d.phase, Reason: d.err.Error(), Err: d.err}
	g.leave("aborted", d, &ending{reason: d.err.Error(), handover: true})
}
