package upgrade

import (
	"context"
	"errors"
	"os"
	"strconv"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A candidate whose old process has died. If it has received the commit message, it is the service. If not, nobody has decided
// that its build is good, and it accepts only so that no client is refused. Under the supervisor it is an orphan then: it
// acquires nothing and writes no pid file, and accepts when its checks have passed. The supervisor starts the committed build, and
// brings a control socket between the two. When that process serves, it takes this one back, as the old one would have: idle
// connections and state go there. Without the supervisor nobody else is there: the candidate is the service, and says at ERROR and
// in Status that it was not committed.

// orphaned is the death of the old process, or, for an orphan, of the process that was to take its place.
func (r *runner) orphaned() {
	switch {
	case r.orphan && r.role == roleCandidate:
		if !r.supervised {
			r.promote("the old process, the supervisor and the committed build that was started have died")
		}
	case r.role == roleCandidate && r.alone: // a message that could not be sent has shown it before the end of the socket did
	case r.role == roleCandidate:
		r.alone = true
		r.succeed()
	case r.aborted && r.attempt == nil:
		r.aborted, r.waits = false, false
		if r.supervised { // the supervisor starts the build that was committed
			r.u.log.Warn("upgrade: the process that took this one back has died: what this one would give back is lost")
			return
		}
		if r.dismissal {
			return // whoever serves by now, it is not for this one
		}
		r.u.log.Warn("upgrade: the old process has died after it took this one back: starting anew")
		r.memory.spare(r.u.log) // what is started inherits the value
		r.begin(newAttempt(context.Background(), r.u, modeRevive), nil)
	}
}

// orphan notes that the old process has died before its welcome: this one is the service now, and there is no supervisor.
func (u *Upgrader) orphan() {
	u.parent.Close()
	u.parent = nil
	u.setUncommitted()
	u.log.Error("upgrade: this process is the service although nobody has committed it", "why", "the old process has died before its welcome", "version", u.opts.Version)
}

// succeed decides what a candidate is whose old process has died.
func (r *runner) succeed() {
	switch {
	case r.proven:
		r.u.log.Warn("upgrade: the old process has died: taking over")
		r.accept()
		if r.taking == nil { // else hasTaken comes
			r.serveAlone()
		}
	case r.supervised && r.u.born.Kind == modeRehearsal.String():
		r.giveUpOrphan(PhaseCheck, errors.New("the old process has died in a rehearsal"))
	case r.supervised:
		r.orphan = true
		r.u.setUncommitted()
		r.u.setState("orphan")
		r.u.log.Error("upgrade: the old process has died before it committed this one: serving until the supervisor has started the committed build", "prepared", r.ready)
		r.u.manager.Orphaned(r.u.opts.Version)
		if r.ready {
			r.accept()
		}
		r.useNext()
		atStep("new.orphaned")
	default:
		r.accept()
		r.promote("the old process has died, and there is no supervisor")
	}
}

// accept lets a process accept that nobody stands behind, unless it needs a resource for that.
func (r *runner) accept() {
	if r.u.resources.serving() {
		return
	}
	r.opened = true
	r.u.listeners.Open(true)
	r.inherit(r.u.elders.begin()) // older generations may pass connections on
}

// giveUpOrphan ends an orphan that could not serve: the supervisor starts the committed build.
func (r *runner) giveUpOrphan(p Phase, err error) {
	r.u.log.Error("upgrade: the old process has died, and this one does not serve: the supervisor starts the committed build", "phase", p, "err", err)
	r.err = &Error{Phase: p, Reason: err.Error(), Err: err}
	r.leave("aborted", &ending{reason: err.Error(), handover: true})
}

// promote makes a candidate the service that was never committed.
func (r *runner) promote(why string) {
	r.orphan = false
	r.u.setUncommitted()
	r.u.log.Error("upgrade: this process is the service although nobody has committed it", "why", why, "version", r.u.opts.Version)
	r.serveAlone()
}

func (r *runner) serveAlone() {
	if r.ready || r.prepared == nil {
		r.takeCharge()
	}
}

// told handles a message of the supervisor.
func (r *runner) told(m sdnotify.Message) {
	defer m.Close()
	switch {
	case m.Has(sdnotify.WordConfirmed) && r.orphan:
		r.promote("the supervisor cannot start the committed build")
	case m.Has(sdnotify.WordSuccessor) && r.role == roleCandidate && r.u.parent != nil && !r.proven:
		r.meetSuccessor(m.Files)
	case m.Has(sdnotify.WordOrphan) && r.role != roleLeaving:
		r.inherit(r.meetOrphan(m))
	}
}

// unsupervised is the end of the supervisor. An orphan that has a control socket to the committed build leaves the decision to
// that process: it serves, or it ends.
func (r *runner) unsupervised() {
	r.supervised = false
	if r.role == roleMain {
		r.u.log.Error(unsupervisedText)
	}
	if r.orphan && r.parent == nil {
		r.promote("the old process and the supervisor have died")
	}
}

const unsupervisedText = "upgrade: the supervisor has ended: nobody starts the service again after a crash"

// meetSuccessor takes the control socket to the process that the supervisor starts in place of this orphan.
func (r *runner) meetSuccessor(files []*os.File) {
	l, err := newLink(files)
	if err != nil {
		r.u.log.Error("upgrade: idle connections and state will be lost: no control socket to the process that is started", "err", err)
		return
	}
	r.dropNext()
	r.next = l
	if r.orphan {
		r.useNext()
	}
}

// useNext makes the process that is started in place of an orphan the one that may take the orphan back.
func (r *runner) useNext() {
	if r.next == nil {
		return
	}
	r.u.parent.Close()
	r.next.AllowMissing(true)
	r.u.parent, r.parent, r.next = r.next, r.next.Frames, nil
	r.oldTakes = nil // what that process takes it says itself
}

// dropNext closes a socket to a process that is not needed.
func (r *runner) dropNext() {
	if r.next != nil {
		r.next.Close()
		r.next = nil
	}
}

// meetOrphan begins to take what an orphan gives to this process, which sends it away when it serves.
func (r *runner) meetOrphan(m sdnotify.Message) error {
	l, err := newLink(m.Files)
	if err != nil {
		return err
	}
	e := &elder{link: l, orphan: true}
	e.Version = m.Value(sdnotify.WordVersion)
	e.PID, _ = strconv.Atoi(m.Value(sdnotify.WordPID))
	e.Generation, _ = strconv.Atoi(m.Value(sdnotify.WordGeneration))
	r.u.elders.follow(e)
	if r.role == roleMain {
		r.dismissOrphans()
	}
	return nil
}

// dismissOrphans sends orphans away, as this process serves.
func (r *runner) dismissOrphans() {
	for _, e := range r.u.elders.dismissed() {
		r.u.log.Warn("upgrade: a process that was not committed goes: its idle connections and its state come here", "pid", e.PID, "version", e.Version)
		// Both fail if it has ended.
		_ = handoff.SendTakes(e.link, r.u.listeners)
		_ = e.link.Send(wire.KindAbort, wire.AbortBody{Reason: "the old process died before the commit, and the committed build serves"})
	}
}

// quitSuccession says that this candidate will not be the service, whatever becomes of the old process.
func (r *runner) quitSuccession() {
	if r.role == roleCandidate && r.u.parent != nil {
		r.u.manager.HandedOver()
	}
	r.orphan = false
}

// newLink makes a link of a control socket that the supervisor has sent.
func newLink(files []*os.File) (*wire.Link, error) {
	if len(files) != 1 {
		return nil, errors.New("the supervisor has sent no control socket")
	}
	file, err := sys.DupFile(files[0])
	if err != nil {
		return nil, err
	}
	sock, err := wire.NewSocket(file) // closes the file
	if err != nil {
		return nil, err
	}
	return wire.NewLink(sock), nil
}
