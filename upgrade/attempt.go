package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// attempt is one upgrade, seen from the old process. It runs in a goroutine of its own, from the start of the new
// process to its commit or its end, as a sequence of phases that each wait for the next event. Until the commit frame
// is sent everything can be taken back; the old process accepts all the time but for the moment of the commit.
type attempt struct {
	u         *Upgrader
	mode      mode
	ctx       context.Context // its end aborts the attempt
	abort     context.CancelCauseFunc
	early     chan struct{} // closed to end bake and soak with a commit
	done      chan error    // gets the one result
	started   time.Time     // for people
	begun     time.Duration // by sys.Uptime
	child     *child
	cand      Candidate
	phase     Phase
	plain     bool          // the child knows tableflip only
	speaks    bool          // it speaks to the service manager itself
	exclusive bool          // the candidate may not accept before the commit
	beside    bool          // a socket of it listens with the commit only
	open      bool          // it has been told to accept
	released  bool          // this process has given up its resources
	takes     handoff.Takes // which connections the candidate can be passed
	crash     *os.File
	due       time.Time // when the candidate must be prepared

	sharing    sync.Mutex // of weights, which the judge sets
	dispatcher atomic.Pointer[handoff.Dispatcher]
	baking     bool         // weights may be set
	spoke      atomic.Int64 // when the candidate was heard last, by sys.Uptime; 0: it need not speak
	silent     int          // how often it was found silent

	came    map[wire.Kind]bool // the kinds of messages that have come from it
	unheard bool               // a message out of order has come since the attempt was taken back, and was logged

	unnamed    <-chan struct{} // closed when the process before this one does not name this one any more; nil: it does not
	writes     <-chan struct{} // closed when this process has tried to write its files again; nil if it does not
	mu         sync.Mutex
	earlyOnce  sync.Once
	committing bool          // the commit frame is going out: too late to abort
	again      bool          // another upgrade was asked for meanwhile
	stopping   chan struct{} // closed if the abort is part of the end of the service
}

// errRehearsed ends a rehearsal that went well.
var errRehearsed = errors.New("this was a rehearsal")

// commitStall is how long the old process holds back its own Accept after it has handed over. A new process that is
// slower than that finds it accepting again until it says that it serves, so that a hang stalls nobody for longer.
const commitStall = time.Second

// idleAbortGrace is how long a candidate that has accepted nothing may take to go.
const idleAbortGrace = 2 * time.Second

func newAttempt(ctx context.Context, u *Upgrader, m mode) *attempt {
	a := &attempt{
		u: u, mode: m, started: wallClock(), begun: sys.Uptime(),
		early: make(chan struct{}), done: make(chan error, 1), stopping: make(chan struct{}),
	}
	a.ctx, a.abort = context.WithCancelCause(context.WithoutCancel(ctx))
	return a
}

// result is where the result comes; nil without an attempt.
func (a *attempt) result() <-chan error {
	if a == nil {
		return nil
	}
	return a.done
}

// run ends with nil when another process serves or a rehearsal went well, and with an *Error otherwise.
func (a *attempt) run() {
	ctx, end := a.u.tel.begin(a.ctx, a.mode.String(), a.mode.done(), a.u.generation)
	if a.unnamed != nil {
		<-a.unnamed // at most nameWait
	}
	err := a.awaitWrites()
	if err == nil {
		a.u.room.with(a.u.reserveOutcome)
		err = a.steps(ctx)
	}
	if err != nil {
		err = a.takeBack(err)
	}
	a.abort(nil)
	if a.crash != nil {
		a.crash.Close()
	}
	a.u.room.refill()
	end(err)
	a.done <- err
}

func (a *attempt) steps(ctx context.Context) error {
	for _, s := range []struct {
		phase Phase
		run   func() error
	}{
		{PhaseStart, a.start},
		{PhaseCheck, a.prepared},
		{PhaseSmoke, a.smoke},
		{PhaseBake, a.bake},
		{PhaseSoak, a.soak},
		{PhaseCommit, a.handOver},
	} {
		a.phase = s.phase
		a.u.tel.phase(ctx, s.phase)
		a.report()
		a.u.log.Debug("upgrade: phase", "phase", s.phase, "candidate", a.cand.pid)
		if err := s.run(); err != nil {
			return err
		}
	}
	return nil
}

// report makes Status show what is known of the candidate.
func (a *attempt) report() {
	a.u.setCandidate(&Process{
		Phase: a.phase, PID: a.cand.pid, Version: a.cand.version, Generation: a.cand.generation, Weight: a.cand.Weight(),
	})
}

// start starts the process and waits for its first word. A process that is ready without a word knows tableflip only.
func (a *attempt) start() error {
	atStep("old.start")
	a.due = time.Now().Add(a.u.opts.Timeout)
	p, err := a.program()
	if err != nil {
		return err
	}
	defer p.Close()
	var child *child
	a.u.room.with(func() {
		a.crash, _ = sys.MemFile("midair-crash") // without it, a crash is told with less
		child, err = a.u.startChild(p)
	})
	if err != nil {
		return err
	}
	state := a.marshal() // the new process needs some milliseconds to begin
	defer state.drop()
	a.child = child
	a.cand.pid, a.cand.generation, a.cand.link, a.cand.attempt = child.PID, a.nextGeneration(), child.link, a
	a.report()
	a.u.log.Info("upgrade: started a new process", "candidate", child.PID, "for", a.mode)
	atStep("old.started")
	if err := a.unknown(); err != nil {
		return err
	}
	f, err := a.until(wire.KindHello, time.Until(a.due), a.unlessMore(state.done))
	answered := false
	if errors.Is(err, errOver) { // it finds its answer when it says hello, if it does
		answered = state.err == nil && a.welcome(state.state, a.child.link.Send) == nil
		f, err = a.until(wire.KindHello, time.Until(a.due), nil)
	}
	if errors.Is(err, errLimit) {
		return fmt.Errorf("it did not get to upgrade.New within %v", a.u.opts.Timeout)
	}
	if err != nil {
		return err
	}
	if a.plain {
		return a.admitPlain()
	}
	return a.greeted(f, state, answered)
}

func (a *attempt) nextGeneration() int {
	if a.mode == modeRevive {
		return a.u.generation
	}
	return a.u.generation + 1
}

// greeted hears hello, and answers it if that was not done before.
func (a *attempt) greeted(f wire.Frame, m *marshalled, answered bool) error {
	var h wire.HelloBody
	if err := f.Decode(&h); err != nil {
		return err
	}
	if err := wire.Overlap(h.Min, h.Max); err != nil {
		return err
	}
	if h.PID != a.child.PID {
		return fmt.Errorf("it is pid %d, started by pid %d: a script has to end with exec", h.PID, a.child.PID)
	}
	if err := a.child.passing.counted(h.Listeners); err != nil {
		return err
	}
	a.tookAll()
	a.speaks = h.Speaks
	a.cand.version = wire.Clip(h.Version)
	atStep("old.hello")
	if !answered {
		state, err := a.snapshot(m)
		if err == nil {
			err = a.welcome(state, a.send)
		}
		if err != nil {
			return err
		}
	}
	a.child.channel.Close() // it is the candidate's only from now on; without a supervisor this does nothing
	a.bequeath()
	return nil
}

// welcome sends what the new process needs to begin. Which version of the protocol is spoken follows from its hello.
func (a *attempt) welcome(state *os.File, send func(wire.Kind, any, ...*os.File) error) error {
	body := wire.WelcomeBody{
		Protocol: wire.ProtocolMin, Generation: a.cand.generation, Millis: time.Until(a.due).Milliseconds(),
		Kind: a.mode.String(), Started: a.started, Begun: a.begun,
		Surroundings: wire.Surroundings{Detached: a.u.detached}, Names: a.u.systemd, Only: a.mode == modeRevive, From: wire.Clip(a.u.opts.Version), PID: os.Getpid(),
	}
	if !a.child.passing.waits {
		a.u.nameFiles(&body)
	}
	var files []*os.File
	if state != nil {
		body.State, files = true, append(files, state)
	}
	if a.crash != nil {
		body.Crash, files = true, append(files, a.crash)
	}
	if a.child.channel != nil {
		body.Channel, files = true, append(files, a.child.channel)
	}
	if err := send(wire.KindWelcome, body, files...); err != nil {
		return err
	}
	atStep("old.welcomed")
	return nil
}

// bequeath passes on what only the main generation has, while the candidate gets ready: it looks at that when it is the
// service. What cannot be passed is not worth a failure.
func (a *attempt) bequeath() {
	if a.mode == modeRehearsal {
		return
	}
	err := errors.Join(a.u.bequeath(&a.cand), a.u.elders.pass(a.child.link))
	if err != nil && !wire.Gone(err) { // a candidate that has died will be heard of
		a.u.log.Warn("upgrade: the new process will not know all about the older ones", "err", err)
	}
	atStep("old.bequeathed")
}

func (a *attempt) prepared() error {
	a.exclusive = a.u.resources.serving()
	if a.plain {
		return nil
	}
	f, err := a.until(wire.KindPrepared, max(time.Until(a.due), time.Millisecond), nil)
	if errors.Is(err, errLimit) {
		return fmt.Errorf("it was not prepared within %v: it hangs before upgrade.Run, or in it", a.u.opts.Timeout)
	}
	if err != nil {
		return err
	}
	var p wire.PreparedBody
	err = f.Decode(&p)
	a.exclusive, a.beside = a.exclusive || p.Exclusive, p.Beside
	atStep("old.prepared")
	return err
}

// smoke asks the program whether the candidate answers as it should, before anybody else sees it. It is all that a
// rehearsal is for.
func (a *attempt) smoke() error {
	if a.mode == modeRehearsal && a.plain {
		return fmt.Errorf("it knows tableflip only, and %w", errNotRehearsed)
	}
	if err := a.judge("Smoke", a.u.opts.Smoke); err != nil {
		return err
	}
	if a.mode == modeRehearsal {
		return errRehearsed
	}
	return nil
}

func (a *attempt) bake() error {
	a.setBaking(true)
	defer a.setBaking(false)
	return a.judge("Bake", a.u.opts.Bake)
}

// judge asks a function of the program, and stops asking as soon as the candidate dies or somebody decides by hand.
func (a *attempt) judge(name string, fn func(context.Context, *Candidate) error) error {
	if fn == nil || a.plain || !a.mode.judged() {
		a.cand.hangUp(a.phase == PhaseBake)
		return nil
	}
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	verdict := fmt.Errorf("the function in Options.%s has ended its goroutine", name)
	judged := make(chan struct{})
	go func() {
		defer close(judged)
		verdict = guard.Call(func() error { return fn(ctx, &a.cand) })
	}()
	_, err := a.until(0, 0, judged)
	cancel()
	select {
	case <-judged:
	case <-time.After(commitStall):
		a.u.log.Error("upgrade: a judge goes on although its context has ended", "judge", name)
	}
	a.cand.hangUp(a.phase == PhaseBake)
	switch {
	case errors.Is(err, errOver):
		return a.whyNot(name, verdict)
	case errors.Is(err, errEarly):
		return nil
	}
	return err
}

// soak lets both accept for a while. A candidate that is alive at its end has shown that it can serve.
func (a *attempt) soak() error {
	if !a.mode.judged() || a.u.opts.Soak <= 0 {
		return nil
	}
	if !a.plain && !a.exclusive {
		a.open = true
		if err := a.send(wire.KindOpen, nil); err != nil {
			return err
		}
	}
	atStep("old.opened")
	_, err := a.until(0, a.u.opts.Soak, nil)
	if errors.Is(err, errLimit) || errors.Is(err, errEarly) {
		return nil
	}
	return err
}

// tryAbort takes the attempt back unless it is too late.
func (a *attempt) tryAbort(cause error, stopping bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.committing {
		return false
	}
	if stopping && !a.isStopping() {
		close(a.stopping)
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

// remember notes that another upgrade is wanted, for whoever serves after this one.
func (a *attempt) remember() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.committing {
		return false
	}
	a.again = true
	return true
}

func (a *attempt) commitNow() { a.earlyOnce.Do(func() { close(a.early) }) }
