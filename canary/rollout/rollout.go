package rollout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
)

// A Rollout moves the weight of a canary by a plan, and takes the canary back if it is worse than stable. A Rollout has to be
// made by New. All methods may be called from any goroutine.
//
// Its parts, from the request to the weight: the recorder passes outcomes to the evidence, the referee decides what the evidence
// means, and the control has the state and the weight. The callers call functions of the program, and the sharing exchanges state
// and evidence with other processes.
type Rollout struct {
	*referee
	callers callers
	sharing sharing
	uses    uses // what Record has counted
}

// New returns a Rollout with a weight of 0, which begins when Run is called.
func New(opts Options) (*Rollout, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	plan := opts.Steps
	if opts.Plan != nil {
		now, err := opts.plan()
		if err == nil {
			err = opts.check(now)
		}
		switch {
		case err == nil:
			plan = now
		case len(now) > 0 && len(plan) == 0:
			return nil, err
		}
	}
	evidence, err := judge.New(opts.Salt, opts.Judge)
	if err != nil {
		return nil, fmt.Errorf("rollout: %w", err)
	}
	r := new(Rollout)
	control := new(control)
	name := rand.Text() // of this process
	control.start(plan, opts.Ready == nil, name)
	r.uses.own = name
	recorder := newRecorder(&opts, evidence)
	r.referee = &referee{control: control, recorder: recorder, opts: &opts, wake: make(chan struct{}, 1), send: make(chan struct{}, 1)}
	recorder.changed = r.consider
	r.callers = callers{control: control, referee: r.referee, opts: &opts, status: r.Status}
	r.sharing.control, r.sharing.recorder, r.sharing.opts, r.sharing.uses, r.sharing.send = control, recorder, &opts, &r.uses, r.send
	return r, nil
}

// Salt returns the salt, for canary.Options.Salt.
func (r *Rollout) Salt() string { return r.opts.Salt }

// Weight returns the share of the canary. It is made for canary.Options.Weight and for flags.Guarded, and is one atomic load.
func (r *Rollout) Weight() float64 { return r.control.Weight() }

// Begin counts that a request begins. It is made for canary.Options.Begin.
func (r *Rollout) Begin(o canary.Outcome) any { return r.begin(o) }

// Observe counts how a request has ended. It is made for canary.Options.Observe. If the outcome shows that the canary is worse
// than stable, the weight is 0 when Observe returns, and Options.Kill is latched: in the process that decides, while Run runs,
// and unless Options.Worse is Hold.
func (r *Rollout) Observe(o canary.Outcome) { r.observe(o) }

// Record counts an outcome that the program defines, bad or not: from a beacon of a page, or a hook of OpenFeature. The context
// is that of a request behind the Router, which needs SideInContext of canary.Options. Record returns an error for a context
// without a side, for a name that is empty, longer than 64 bytes or no UTF-8, and if there are 16 other names already. Status has the
// counts (Uses).
func (r *Rollout) Record(ctx context.Context, name string, bad bool) error {
	side, ok := canary.SideFromContext(ctx)
	switch {
	case !ok:
		return errors.New("rollout: Record: the context has no side: it has to be that of a request behind the Router, with Options.SideInContext")
	case name == "" || len(name) > maxUseName || !utf8.ValidString(name):
		return fmt.Errorf("rollout: Record: the name %.80q has %d bytes: choose one of 1 to %d, in UTF-8", name, len(name), maxUseName)
	}
	if !r.uses.add(name, side == canary.Canary, bad) {
		return fmt.Errorf("rollout: Record: there is no room for the name %q beside %d others", name, maxUses)
	}
	return nil
}

// Status returns the state, the step and the evidence. A Status can be encoded as JSON, for an admin endpoint.
func (r *Rollout) Status() Status {
	evidence := r.evidence.Status()
	s := Status{
		Name: r.opts.Name, Salt: r.opts.Salt, Leads: r.leads.Load(), Judge: evidence, Uses: r.uses.status(evidence.Options.Alpha),
	}
	waits := r.waits(time.Now(), evidence.Verdict, r.look(), r.canaryRequests())
	if r.control.fill(&s); s.State == Ramping {
		s.Waits = waits
	}
	return s
}

// Run moves the rollout, blocks until ctx ends, and returns the cause of that. Run sends what was counted last, and returns after its
// goroutines, which call Options.Broadcast, Decided, Opinion, Ready and SetWeight. Call Run once in each process. If the program has
// an Upgrader, call Run in the function that Run of the Upgrader calls. If ctx lasts until the last request of a process that drains
// has ended, each outcome counts; such a process has to follow (Options.Follows).
func (r *Rollout) Run(ctx context.Context) error { return r.run(ctx, false) }

// run is Run. If once is true, run also ends when the state is Promoted, Aborted or RolledBack, and with the first error of
// SetWeight.
func (r *Rollout) run(ctx context.Context, once bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var parts sync.WaitGroup // each ends with ctx
	defer parts.Wait()
	defer cancel(nil)
	defer r.leads.Store(false)
	r.review() // before SetWeight is called for the first time
	parts.Go(func() { r.callers.note(ctx) })
	for _, part := range []struct {
		used bool
		run  func(context.Context)
	}{
		{r.opts.Decided != nil, r.callers.tell}, {r.opts.Ready != nil, r.callers.awaitReady}, {r.opts.Opinion != nil, r.callers.ask},
		{r.opts.Broadcast != nil, r.sharing.run}, {r.opts.SetWeight != nil && !once, r.callers.drive},
		{r.opts.SetWeight != nil && once, func(ctx context.Context) { r.callers.driveOnce(ctx, cancel) }},
	} {
		if part.used {
			parts.Go(func() { part.run(ctx) })
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		r.review()
		if once && r.control.state() >= Promoted {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-r.wake:
			if pause(ctx, lookEvery/5) != nil { // events that come together are one message
				return context.Cause(ctx)
			}
		}
	}
}
