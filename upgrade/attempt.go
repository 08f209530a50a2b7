package upgrade

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// attempt is one upgrade, seen from the old process. It has a goroutine of its own, and goes through the stages of the table in
// stages.go. Functions of the program run beside that goroutine (see work): an abort, the death of the candidate and the end of the
// time are noticed meanwhile. Until the commit message is sent, everything can be taken back. The old process always accepts,
// except at the moment of the commit.
type attempt struct {
	origin  *origin // of this process
	estate  *estate
	history *history
	traffic *traffic
	shown   *shown
	opts    *Options
	log     *slog.Logger
	tel     *telemetry

	mode    mode
	ctx     context.Context // its end aborts the attempt
	abort   context.CancelCauseFunc
	started time.Time     // for people
	begun   time.Duration // by sys.Uptime
	due     time.Time     // when the candidate must be prepared
	done    chan error    // gets the one result
	crash   *os.File      // in which the Go runtime of the candidate describes a crash

	mu    sync.Mutex // of stage, for other goroutines, and again
	stage stage      // is written with mu and shares.mu
	again bool       // another upgrade was asked for meanwhile

	// Signals from other goroutines.
	unnamed   <-chan struct{} // closed when systemd knows this process; nil: it does already
	writes    <-chan struct{} // closed when this process has tried again to write its files; nil: it does not
	early     chan struct{}   // closed to end bake and soak with a commit
	earlyOnce sync.Once
	stopping  chan struct{} // closed if the abort is part of the end of the service

	child     *child // nil before the stage starting
	cand      Candidate
	peer      peer
	hello     wire.HelloBody    // what the candidate has sent about itself; zero for a program with tableflip only
	prepared  wire.PreparedBody // the same
	shares    shares
	received  received
	heartbeat heartbeat

	program   *chosen     // what is started
	values    *marshalled // of Keep
	work      *work       // the judge, Release or Acquire that runs
	dismissal *dismissal  // nil before the stage dismissing
}

// newAttempt returns an attempt, which begins with run. The end of ctx does not abort the attempt.
func newAttempt(ctx context.Context, p *parts, m mode) *attempt {
	a := &attempt{
		origin: &p.origin, estate: &p.estate, history: &p.history, traffic: &p.traffic, shown: &p.shown,
		opts: &p.opts, log: p.log, tel: p.tel,
		mode: m, started: wallClock(), begun: sys.Uptime(), peer: midair{},
		early: make(chan struct{}), done: make(chan error, 1), stopping: make(chan struct{}),
	}
	a.shares.attempt = a
	a.ctx, a.abort = context.WithCancelCause(context.WithoutCancel(ctx))
	return a
}

// result is the channel of the result; nil without an attempt.
func (a *attempt) result() <-chan error {
	if a == nil {
		return nil
	}
	return a.done
}

// run ends with nil when another process serves or a rehearsal went well, and with an *Error otherwise.
func (a *attempt) run() {
	ctx, end := a.tel.begin(a.ctx, a.mode.String(), a.mode.done(), a.origin.generation)
	a.follow(ctx)
	var err error
	if a.dismissal != nil {
		err = a.dismissal.takenBack()
	}
	a.abort(nil)
	if a.crash != nil {
		a.crash.Close()
	}
	a.estate.room.refill()
	end(err)
	a.done <- err
}

// follow takes the attempt through its stages. ctx is for telemetry.
func (a *attempt) follow(ctx context.Context) {
	a.show(ctx)
	for w := a.begin(); a.stage != atEnded; {
		before := a.phase()
		if !a.step(a.next(&w)) {
			continue
		}
		if a.phase() != before {
			a.show(ctx)
		}
		w = a.begin()
	}
}

// step carries out the cell of the table for an event, and reports whether the stage has changed. An action that fails takes the
// attempt back.
func (a *attempt) step(n news) bool {
	c := attTable[a.stage][n.event]
	switch err := a.act(c.do, n); {
	case err != nil && a.stage < atDismissing:
		a.dismissal, c.next = &dismissal{attempt: a, cause: err}, atDismissing
	case err != nil:
		a.log.Error("upgrade: while an upgrade is taken back", "err", err)
	}
	if c.next == stay {
		return false
	}
	if !a.move(c.next) {
		a.dismissal = &dismissal{attempt: a, cause: a.aborted()}
		a.move(atDismissing)
	}
	return true
}

// move ends the work of the stage and goes to another stage. After an abort it does not go on, and reports false.
func (a *attempt) move(to stage) bool {
	a.leave(to)
	a.shares.mu.Lock() // no weight is set meanwhile
	defer a.shares.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if to < atDismissing && a.ctx.Err() != nil && attTable[a.stage][evAborted] == back {
		return false
	}
	if to == atDismissing {
		a.dismissal.failedAt = a.stage
	}
	a.stage = to
	return true
}

// act carries out an action of the table. An error takes the attempt back.
func (a *attempt) act(do attAction, n news) error {
	switch do {
	case doImpossible:
		return &stageError{a.stage, n.event}
	case doTakeBack:
		return a.why(n)
	case doWelcomeEarly:
		return a.welcomeEarly()
	case doGreet:
		return a.greet(n.frame)
	case doWelcome:
		return a.welcome()
	case doAdmit:
		return a.admit()
	case doPrepare:
		return a.prepare(n.frame)
	case doPassSmoke:
		return a.passSmoke()
	case doSeal:
		return a.seal()
	case doReopen:
		if !a.exclusive() {
			a.estate.listeners.Open(true)
		}
	case doConfirm:
		return a.confirm(n.frame)
	case doWarn:
		a.dismissal.warn()
	case doStop:
		a.child.stop()
	case doHurry:
		a.work.cancel()
	case doGiveUp:
		a.log.Error("upgrade: the candidate does not end although it was killed: end it by hand", "candidate", a.child.PID)
	}
	return nil
}

// phase returns the phase that Status shows.
func (a *attempt) phase() Phase {
	if a.stage >= atDismissing && a.dismissal != nil {
		return phases[a.dismissal.failedAt]
	}
	return phases[a.stage]
}

// show makes the phase known: in Status, in the log and to telemetry.
func (a *attempt) show(ctx context.Context) {
	a.tel.phase(ctx, a.phase())
	a.report()
	a.log.Debug("upgrade: phase", "phase", a.phase(), "candidate", a.cand.pid)
}

// report makes Status show the candidate.
func (a *attempt) report() {
	a.shown.setCandidate(&Process{
		Phase: a.phase(), PID: a.cand.pid, Version: a.cand.version, Generation: a.cand.generation, Weight: a.cand.Weight(),
	})
}

// tryAbort takes the attempt back. It reports false after the commit message: then an abort comes too late, and a stop ends the
// candidate too.
func (a *attempt) tryAbort(cause error, stopping bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if stopping && !a.isStopping() {
		close(a.stopping)
	}
	if attTable[a.stage][evAborted].do == doDeny {
		return false
	}
	a.abort(cause)
	return true
}

func (a *attempt) isStopping() bool {
	select {
	case <-a.stopping:
		return true
	default:
		return false
	}
}

// remember notes that another upgrade is wanted after this attempt. It reports false after the commit message and after the
// end of the attempt: then the generation keeps the wish. The generation sends SIGHUP to the new process, or begins the
// upgrade itself if the attempt failed.
func (a *attempt) remember() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if attTable[a.stage][evAsked].do != doAllow {
		return false
	}
	a.again = true
	return true
}

// commitNow ends bake and soak, including those that have not begun.
func (a *attempt) commitNow() { a.earlyOnce.Do(func() { close(a.early) }) }

// exclusive reports whether the candidate must not accept before the commit.
func (a *attempt) exclusive() bool { return a.estate.resources.serving() || a.prepared.Exclusive }

func (a *attempt) nextGeneration() int {
	if a.mode == modeRevive {
		return a.origin.generation
	}
	return a.origin.generation + 1
}

// outcome describes how the attempt ended.
func (a *attempt) outcome(err error) Outcome {
	out := Outcome{
		Kind: a.mode.String(), Started: a.started, Begun: a.begun, At: wallClock(), Committed: err == nil && a.mode != modeRehearsal,
		From: a.opts.Version, FromPID: os.Getpid(), Version: a.cand.version, Generation: a.cand.generation, PID: a.cand.pid,
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		out.Phase, out.Reason = e.Phase, e.Reason
	}
	return out
}
