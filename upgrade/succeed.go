package upgrade

import (
	"context"
	"os"
	"runtime/debug"
)

// A generation as the successor of another one: from candidate to main generation, or back out.

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
	u.keeper.forget()
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
	case f.kind == kindReleased:
		r.waits = false
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
		r.aborted, r.waits = false, false
		r.u.log.Warn("upgrade: the old process has died after it took this one back: starting anew")
		r.begin(newAttempt(context.Background(), r.u, true), nil)
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
		state, err := r.u.keeper.snapshot()
		if err != nil {
			r.u.log.Error("upgrade: cannot give the state back", "err", err)
		} else if state != nil {
			defer state.Close()
			files = append(files, state)
		}
	}
	// If this fails the socket's end is the next thing that is heard. The old process sees to it that this one does not
	// wait for ever.
	_ = r.u.parent.send(kindReturned, returnedBody{State: len(files) > 0}, files...)
	r.waits = true
	atStep("new.returned")
}
