package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A generation as the successor of another one: from candidate to main generation, or back out.

// take reads the welcome. What the state holds is found out when the program calls Keep.
func (u *Upgrader) take(f wire.Frame) error {
	defer f.Close()
	var w wire.WelcomeBody
	if err := f.Decode(&w); err != nil {
		return err
	}
	if err := wire.Overlap(w.Protocol, w.Protocol); err != nil {
		return fmt.Errorf("the old process: %w", err)
	}
	u.generation, u.welcome, u.only, u.paths, u.expects = w.Generation, time.Now(), w.Only, w.Paths, w.Expected
	u.listeners.NoteLinks(w.Paths, w.Links)
	u.born.From, u.born.FromPID = w.From, w.PID
	if !w.Started.IsZero() {
		u.born.Kind, u.born.Started, u.born.Begun = w.Kind, w.Started, w.Begun
	}
	u.inherited = append(u.inherited, w.Stored...)
	u.detached = w.Detached
	u.systemd = w.Names && u.manager != nil && u.manager.SupervisorState() == ""
	u.elder = &elder{ElderBody: wire.ElderBody{Generation: w.Generation - 1, PID: cmp.Or(w.PID, os.Getppid()), Version: w.From}, link: u.parent}
	if w.Millis > 0 {
		u.limit = time.Duration(w.Millis) * time.Millisecond
	}
	files := f.Files
	if w.State && len(files) > 0 {
		if err := u.keeper.Receive(files[0]); err != nil {
			u.keeper.Refuse(err)
		}
		files = files[1:]
	}
	if w.Crash && len(files) > 0 {
		_ = debug.SetCrashOutput(files[0], debug.CrashOptions{})
		files = files[1:]
	}
	if u.manager.Supervised() {
		if err := u.takeChannel(w.Channel, files); err != nil {
			return err
		}
	}
	atStep("new.welcomed")
	return nil
}

// fail ends a candidate for a reason of its own, if there still is an old process to serve on. From then on it is like
// one that was taken back.
func (r *runner) fail(p Phase, err error) {
	if r.u.parent != nil {
		body := wire.FailedBody{Phase: string(p), Reason: wire.Clip(err.Error()), Aborted: errors.Is(err, ErrAborted)}
		if sent := r.u.parent.Send(wire.KindFailed, body); wire.Gone(sent) {
			for old := r.parent; old != nil && r.parent == old && r.role == roleCandidate; { // its last word may be the commit message
				f, ok := <-old
				r.heard(f, ok)
			}
			switch {
			case r.proven, r.role == roleLeaving:
				return
			case r.orphan:
				r.giveUpOrphan(p, err)
				return
			}
			if !body.Aborted {
				r.u.log.Error("upgrade: serving although not everything is right: there is no other process to do it", "phase", p, "err", err)
			}
			r.orphaned()
			return
		} else if sent != nil {
			r.u.log.Error("upgrade: cannot tell the old process what is wrong", "err", sent)
		}
		r.takenBack()
	}
	atStep("new.failed")
	r.err = &Error{Phase: p, Reason: err.Error(), Err: err}
	r.leave("aborted", &ending{reason: err.Error(), handover: true})
}

func (r *runner) isPrepared(err error) {
	switch {
	case r.role != roleCandidate:
		return
	case err != nil && r.orphan:
		r.giveUpOrphan(PhaseCheck, err)
		return
	case err != nil && !r.alone && !r.u.only:
		r.fail(PhaseCheck, err)
		return
	case err != nil:
		r.u.log.Error("upgrade: serving although not everything is right: there is no other process to do it", "err", err)
	}
	r.ready = true
	if r.orphan {
		r.accept()
		return
	}
	if r.alone || r.u.plainParent {
		r.takeCharge()
		return
	}
	atStep("new.prepare")
	_ = handoff.SendTakes(r.u.parent, r.u.listeners) // as with the next message, the end of the socket tells
	if r.u.parent.Send(wire.KindPrepared, wire.PreparedBody{Exclusive: r.u.resources.serving(), Beside: r.u.listeners.Beside()}) == nil {
		atStep("new.prepared")
	}
}

// takeCharge makes a process the service that nobody stands behind.
func (r *runner) takeCharge() {
	if len(r.u.resources.list()) > 0 {
		r.acquire()
		return
	}
	r.becomeMain()
	r.hurryElders()
	r.upgradeAgain()
}

// becomeMain is the commit: from here on this generation is the service. The old process hears of it afterwards: what it has
// to do then takes the processors that the first requests here need.
func (r *runner) becomeMain() {
	u := r.u
	r.role = roleMain
	u.publisher.Store(nil)
	u.setMover(nil)
	if u.parent != nil {
		u.parent.AllowMissing(false) // from now on the old process keeps no descriptor
	}
	u.listeners.UnlinkOnClose(true)
	if u.tf != nil {
		u.room.fill(len(u.listeners.Refs()))
	}
	if err := u.listeners.BeginListening(); err != nil {
		u.log.Error("upgrade: a socket does not listen", "err", err)
	}
	u.listeners.Open(true)
	r.memory.spare(r.u.log)
	atStep("new.commit")
	if u.tf != nil {
		if err := u.tf.Ready(); err != nil && !r.alone {
			u.log.Warn("upgrade: the old process did not hear of the commit", "err", err)
		}
	}
	atStep("new.ready")
	u.putPathsBack()
	u.listeners.ListenAgain()
	if err := u.publish(); err != nil {
		u.log.Error("upgrade: serving without a pid file", "err", err)
	}
	u.testify()
	if !r.awaitName() {
		u.announce(!r.alone && u.parent != nil)
	}
	if r.alone {
		u.listeners.DropRest()
	}
	u.keeper.Forget()
	if u.elder != nil {
		_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	}
	u.setState("serving")
	u.log.Info("upgrade: serving", "generation", u.generation, "version", u.opts.Version, "pid", os.Getpid())
	r.inherit(u.elders.begin())
	r.dismissOrphans()
	if u.manager.SupervisorState() == "dead" {
		u.log.Error(unsupervisedText)
	}
	if r.parent != nil {
		u.elders.add(u.elder)
	}
}

// hurryElders tells the oldest generations to hurry if there are too many. The process that is replaced hears it only after it
// has heard that this one serves.
func (r *runner) hurryElders() {
	u := r.u
	for _, e := range u.elders.hurry(u.opts.MaxGenerations) {
		u.log.Warn("upgrade: too many generations: this one closes what is idle", "draining", e.PID, "generation", e.Generation, "MaxGenerations", u.opts.MaxGenerations)
	}
}

// heard handles a frame of the old process, or its death.
func (r *runner) heard(f wire.Frame, ok bool) {
	if !ok {
		r.parent = nil
		r.isNamed()
		r.u.elders.remove(r.u.elder)
		if r.u.elder != nil {
			r.goes(r.u.elder.PID)
		}
		if r.pulse != nil {
			r.pulse.Stop()
			r.pulse = nil
		}
		r.sharing.End()
		r.unheard()
		return
	}
	defer f.Close()
	switch {
	case f.Kind == wire.KindReleased:
		r.waits = false
	case f.Kind == wire.KindNamed:
		r.isNamed()
	case f.Kind == wire.KindConn:
		r.moved(f)
	case f.Kind == wire.KindAbort && r.role == roleLeaving:
		r.forsake(f)
	case r.role != roleCandidate:
	case f.Kind == wire.KindShare:
		if err := r.shares(f); err != nil {
			r.fail(PhaseBake, err)
		}
	case f.Kind == wire.KindTakes:
		r.inherit(r.oldTakes.Hear(f))
	case f.Kind == wire.KindWeight:
		r.weighed(f)
	case f.Kind == wire.KindShut:
		r.u.listeners.Pause(true)
	case f.Kind == wire.KindDial:
		r.dialed(f)
	case f.Kind == wire.KindPrevious:
		r.inherit(r.u.previous.take(f.Files))
	case f.Kind == wire.KindElder:
		r.inherit(r.u.elders.adopt(f))
	case f.Kind == wire.KindOpen:
		r.opened = true
		r.u.listeners.Open(false)
		atStep("new.opened")
	case f.Kind == wire.KindCommit:
		r.commit(f)
	case f.Kind == wire.KindAbort:
		r.abort(f)
	}
}

// dialed serves a private connection of the old process.
func (r *runner) dialed(f wire.Frame) {
	var body wire.DialBody
	err := f.Decode(&body)
	if err == nil && len(f.Files) == 0 {
		err = errors.New("no connection came along")
	}
	if err == nil {
		err = r.u.listeners.Give(body.Network, body.Addr, f.Files[0])
	}
	reply := wire.DialedBody{ID: body.ID}
	if err != nil {
		reply.Error = wire.Clip(err.Error())
	}
	_ = r.u.parent.Send(wire.KindDialed, reply) // a dead old process needs no answer
}

// inherit notes that something the old process left could not be taken. It is not worth a failure.
func (r *runner) inherit(err error) {
	if err != nil {
		r.u.log.Warn("upgrade: not all of what the old process left could be taken", "err", err)
	}
}

// unheard is the end of the control socket: the death of the old process, unless it is this end that cannot go on.
func (r *runner) unheard() {
	broken := r.u.parent.Broken
	if broken == nil {
		r.orphaned()
		if e := r.u.elder; e != nil {
			r.u.pid.Discard(e.PID) // it may have been killed
		}
		return
	}
	r.u.log.Error("upgrade: lost the control socket", "err", broken)
	if r.taking != nil { // the commit message has come before
		return
	}
	if r.role == roleMain {
		r.u.parent.Close() // so that nothing more is sent to nobody
	}
	r.waits = false
	if r.role == roleCandidate {
		r.fail(r.phase(), broken)
	}
}

// abort ends a candidate that the old process does not want, or an orphan, in whose place another process serves.
func (r *runner) abort(f wire.Frame) {
	var body wire.AbortBody
	_ = f.Decode(&body)
	phase, reason := r.phase(), "taken back by the old process: "+body.Reason
	if r.orphan {
		reason, r.dismissal = body.Reason, true
		r.opened = true // what the old process knew at the start is worth more than nothing, although nothing was served
	}
	r.takenBack()
	r.forsake(f)
	r.err = &Error{Phase: phase, Reason: reason, Err: ErrAborted}
	atStep("new.aborted")
	r.leave("aborted", &ending{reason: "taken back", handover: true})
}

// takenBack keeps the listeners in hand until the process ends, in case the old one dies first.
func (r *runner) takenBack() {
	r.aborted = true
	r.u.publisher.Store(nil)
	r.sendBack(0, 0) // as the server drains
	r.u.listeners.KeepClosed(true)
}

// forsake notes that the whole service ends, so that a candidate does not go on alone.
func (r *runner) forsake(f wire.Frame) {
	var body wire.AbortBody
	if err := f.Decode(&body); err == nil && body.Stopping {
		r.aborted, r.waits = false, false
		r.u.setMover(nil) // nothing that is sent back would be heard
		r.u.listeners.KeepClosed(false)
	}
}

// giveBack sends the state of a candidate that has served to the old process, and makes this one wait until it is sure
// that the old one lives.
func (r *runner) giveBack() {
	if !r.aborted || r.parent == nil {
		return
	}
	var files []*os.File
	if r.opened {
		state, err := r.u.keeper.Snapshot()
		if err != nil {
			r.u.log.Error("upgrade: cannot give the state back", "err", err)
		} else if state != nil {
			defer state.Close()
			files = append(files, state)
		}
	}
	// If this fails the socket's end is the next thing that is heard. The old process sees to it that this one does not
	// wait for ever.
	_ = r.u.parent.Send(wire.KindReturned, nil, files...)
	r.waits = true
	atStep("new.returned")
}
