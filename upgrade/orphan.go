package upgrade

import (
	"context"
	"errors"
	"os"
	"strconv"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A candidate whose old process has died. If it has received the commit message, it is the service. If not, nobody has decided
// that its build is good, and it accepts only so that no client is refused. Under the supervisor it is an orphan then: it
// acquires nothing and writes no pid file, and when the supervisor has started the committed build, it gives that process its
// idle connections and its state, over a control socket that the supervisor brings, and goes. Without the supervisor nobody
// else is there: it is the service, and says at ERROR and in Status that it was not committed.

// orphaned is the death of the old process, or, for an orphan that was dismissed, of the process that serves.
func (r *runner) orphaned() {
	switch {
	case r.role == roleCandidate && r.alone: // a message that could not be sent has shown it before the end of the socket did
	case r.role == roleCandidate:
		r.alone = true
		if !r.u.resources.serving() {
			r.opened = true
			r.u.listeners.Open(true)
		}
		r.succeed()
	case r.aborted && r.attempt == nil:
		r.aborted, r.waits = false, false
		if r.u.manager.Supervised() { // the supervisor starts the build that was committed
			r.u.log.Warn("upgrade: the old process has died after it took this one back: what this one would give back is lost")
			return
		}
		r.u.log.Warn("upgrade: the old process has died after it took this one back: starting anew")
		r.memory.spare(r.u.log) // what is started inherits the value
		r.begin(newAttempt(context.Background(), r.u, modeRevive), nil)
	}
}

// succeed decides what a candidate is whose old process has died.
func (r *runner) succeed() {
	switch {
	case r.proven:
		r.u.log.Warn("upgrade: the old process has died: taking over")
		r.serveAlone()
	case r.u.manager.Supervised():
		r.orphan = true
		if r.opened { // older generations may pass connections on
			r.inherit(r.u.elders.begin())
		}
		r.u.setUncommitted()
		r.u.setState("orphan")
		r.u.log.Error("upgrade: the old process has died before it committed this one: serving until the supervisor has started the committed build")
		r.u.manager.Orphaned(r.u.opts.Version)
		atStep("new.orphaned")
	default:
		r.promote("the old process has died, and there is no supervisor")
	}
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
	case m.Has(sdnotify.WordDismissed) && r.orphan:
		r.dismissed(m.Files)
	case m.Has(sdnotify.WordOrphan) && r.role == roleMain:
		r.inherit(r.u.adoptOrphan(m))
	}
}

// unsupervised is the end of the supervisor.
func (r *runner) unsupervised() {
	if r.role == roleMain {
		r.u.log.Error("upgrade: the supervisor has ended: nobody starts the service again after a crash")
	}
	if r.orphan {
		r.promote("the old process and the supervisor have died")
	}
}

// dismissed lets an orphan go: as if the process that serves were the old one, and had taken it back.
func (r *runner) dismissed(files []*os.File) {
	r.orphan = false
	if l, err := newLink(files); err != nil {
		r.u.log.Error("upgrade: idle connections and state are lost: no control socket to the process that serves", "err", err)
	} else {
		r.u.parent.Close()
		l.AllowMissing(true)
		r.u.parent, r.parent, r.dismissal = l, l.Frames, true
	}
	phase := r.phase()
	r.opened = true // what the old process knew at the start is worth more than nothing, although nothing was served
	r.takenBack()
	r.err = &Error{Phase: phase, Reason: "the old process died before the commit, and the committed build serves", Err: ErrAborted}
	r.leave("aborted", &ending{reason: "taken back", handover: true})
}

// adoptOrphan begins to take what an orphan gives to this process, the main generation, before it ends.
func (u *Upgrader) adoptOrphan(m sdnotify.Message) error {
	l, err := newLink(m.Files)
	if err != nil {
		return err
	}
	e := &elder{link: l}
	e.Version = m.Value(sdnotify.WordVersion)
	e.PID, _ = strconv.Atoi(m.Value(sdnotify.WordPID))
	e.Generation, _ = strconv.Atoi(m.Value(sdnotify.WordGeneration))
	u.log.Warn("upgrade: a process that was not committed has served, and goes: its idle connections and its state come here", "pid", e.PID, "version", e.Version)
	u.elders.follow(e)
	return nil
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
