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

// attempt is one upgrade, seen from the old process. It has a goroutine of its own, and goes through the stages of the table
// in stages.go. Functions of the program run in other goroutines (see work). So while such a function runs, the attempt still
// notices an abort, the death of the candidate and the end of a time limit. Until the commit message is sent, the attempt can
// be aborted. The old process accepts during the whole attempt, with three exceptions: while the candidate has the weight 1,
// while the processes hand over exclusive resources, and for commitStall after the commit message.
type attempt struct {
	origin  *origin // how this process was started
	estate  *estate
	history *history
	traffic *traffic
	shown   *shown
	opts    *Options
	log     *slog.Logger
	tel     *telemetry

	mode    mode
	ctx     context.Context // when ctx ends, the attempt is aborted
	abort   context.CancelCauseFunc
	started time.Time     // the start of the attempt as a time of day, for people to read
	begun   time.Duration // the start of the attempt, by sys.Uptime
	due     time.Time     // the time by which the candidate must be prepared
	done    chan error    // receives the result, once
	crash   *os.File      // if the candidate crashes, its Go runtime writes a report to this file; nil: there is no file

	mu    sync.Mutex // protects the fields stage and again
	stage stage      // the attempt locks mu and shares.mu to change the stage; other goroutines lock one of the two to read it
	again bool       // another upgrade was requested during this attempt

	// Signals from other goroutines.
	unsettled <-chan struct{} // closed when this process has announced itself as the service, see settled; nil: it has done so
	writes    <-chan struct{} // closed when a new try to write the pid file and the outcome has ended; nil: no such try runs
	early     chan struct{}   // closed by commitNow: bake and soak end, and the commit follows
	earlyOnce sync.Once
	stopping  chan struct{} // closed when the whole service is to end

	child     *child // nil before the stage starting
	cand      Candidate
	peer      peer
	hello     wire.HelloBody    // the body of the message hello; zero for a program with tableflip only
	prepared  wire.PreparedBody // the body of the message prepared; zero for a program with tableflip only
	shares    shares
	received  received
	heartbeat heartbeat

	program   *chosen     // the program that is started
	values    *marshalled // the values of Keep
	work      *work       // the running judge, the work of release or the work of reacquire; nil: none of the three runs
	dismissal *dismissal  // nil before the stage dismissing

	files sync.WaitGroup // the goroutines that restore and write files, because a file system may hang
}

// newAttempt returns an attempt, which begins when run is called. The attempt uses the values of ctx, but the end of ctx does
// not abort the attempt.
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

// result returns the channel that receives the result; nil if a is nil.
func (a *attempt) result() <-chan error {
	if a == nil {
		return nil
	}
	return a.done
}

// run takes the attempt to its end, and sends the result on done. The result is nil if another process serves, or if a
// rehearsal went well. Otherwise the result is an *Error.
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

// step looks up an event in the table, carries out the action and goes to the next stage. It reports whether the stage has
// changed. If the action fails before the stage dismissing, the attempt is taken back. A failure in a later stage is only
// logged.
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

// move ends the work of the present stage, changes to the given stage, and returns true. There is one exception: the attempt
// was aborted, the present stage allows an abort, and the given stage comes before dismissing. Then move does not change the
// stage, and returns false.
func (a *attempt) move(to stage) bool {
	if a.stage == atBaking {
		a.shares.endBake(to == atDismissing)
	}
	a.leave(to)
	a.shares.mu.Lock() // setWeight changes weights with this lock locked, and only in the stage baking
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

// act carries out an action of the table. The caller handles an error: see step.
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
			a.acceptAgain()
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

// show reports the phase in Status, in the log and in telemetry.
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

// tryAbort aborts the attempt for a cause, and returns true. If the commit message was sent or the attempt has ended, it is
// too late: tryAbort returns false. If stopping is true, the whole service is to end. In this case the attempt sends SIGTERM
// to a candidate that was sent the commit message.
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

// remember notes the request for another upgrade in the attempt, and returns true. If the commit message was sent or the
// attempt has ended, it is too late: remember returns false, and the generation keeps the request. After a commit, the
// generation sends SIGHUP to the new process. After a failed attempt, it begins the upgrade itself.
func (a *attempt) remember() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if attTable[a.stage][evAsked].do != doAllow {
		return false
	}
	a.again = true
	return true
}

// commitNow ends bake and soak at once. If one of them has not begun, it ends as soon as it begins.
func (a *attempt) commitNow() { a.earlyOnce.Do(func() { close(a.early) }) }

// exclusive reports whether this process or the candidate needs an exclusive resource to serve. If so, the candidate must not
// accept before the commit.
func (a *attempt) exclusive() bool { return a.estate.resources.serving() || a.prepared.Exclusive }

// acceptAgain makes this process accept again. In modeRevive it does nothing: this process was aborted, and must not accept.
func (a *attempt) acceptAgain() {
	if a.mode != modeRevive {
		a.estate.listeners.Open(true)
	}
}

func (a *attempt) nextGeneration() int {
	if a.mode == modeRevive {
		return a.origin.generation
	}
	return a.origin.generation + 1
}

// outcome describes how the attempt has ended. err is the result of run.
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
