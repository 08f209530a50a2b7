package judge

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/cohort"
)

// Options are the options of New.
type Options struct {
	// Alpha is the probability, over the whole rollout and at all times together, with which a canary that is no worse than
	// stable is judged a regression. Default: 0.01. At most 0.5.
	Alpha float64
	// Tolerance is the relative risk of a bad outcome up to which the canary is no worse than stable. Default: 1.25. At least 1.
	Tolerance float64
	// SlowTolerance is the same for the share of requests that are slower than a threshold. Default: 1.1. At least 1.
	SlowTolerance float64
	// Slow is an absolute threshold of the latency, beside the median, the 90 % and the 99 % quantile of the first 1,000 requests
	// of stable. Default: none.
	Slow time.Duration
	// Settle is how long after the begin of a request its event is counted, at a call of Settle. It should be at least the longest
	// timeout of a request. With the default of 0, events are counted at once. Then a canary that fails as often as stable, and
	// sooner, can be judged a regression.
	Settle time.Duration
}

// A Result is what has become of a request.
type Result uint8

// The results. A panic is a bad outcome too.
const (
	Good Result = iota
	Bad
	Panicked
)

// An Outcome describes a request that has ended, or one that is still running.
type Outcome struct {
	// Unit is the key by which the request was routed. It is empty if the request was drawn on its own.
	Unit string
	// Weight is the weight of the canary by which this request was routed. At a weight of 0 or 1 there is no evidence.
	Weight float64
	// Canary is the side that the request was routed to, also if stable has answered in the end.
	Canary bool
	// Result is good, bad, or a panic.
	Result Result
	// Began is when the request began, by a clock that is the same for all processes of a rollout.
	Began time.Duration
	// Took is the duration of the request until now.
	Took time.Duration
	// Running is true if the request has not ended. Report a request when it has been running for a threshold, else a canary that
	// hangs has no events.
	Running bool
	// Reported is the Took of the last report of the same request while the request was running. What was reported as bad is good
	// when it ends.
	Reported time.Duration
}

// An Analysis has the evidence about the canary of one rollout.
type Analysis struct {
	salt    string // of the cohort
	hashing string // the salt of the hashes of this package
	opts    Options
	id      string // of this process
	own     *steps
	latency *latency
	keyed   atomic.Bool   // there was a unit
	late    atomic.Uint64 // events that came after they should have been settled

	mu      sync.Mutex
	senders map[string]*steps // own is one of them
	units   [kinds]units
	sender  sender
	pending pending
	memos   memos
	peak    float64 // the greatest logarithm of the evidence that Verdict has seen
	latched bool    // Verdict was Regression
	mixed   bool    // another process has other thresholds of the latency
}

// New returns an Analysis without evidence. salt is the salt of the cohort, by which the processes of a rollout know that their
// evidence is about the same units. A new version of the canary needs a new salt.
func New(salt string, opts Options) (*Analysis, error) {
	defaults(&opts)
	if err := opts.check(); err != nil {
		return nil, err
	}
	if salt == "" {
		return nil, errors.New("judge: no salt: pass the salt of the cohort, which is a new one for each rollout")
	}
	return newAnalysis(salt, opts), nil
}

func newAnalysis(salt string, opts Options) *Analysis {
	own, id := new(steps), rand.Text()
	return &Analysis{
		salt: salt, hashing: "judge\x01" + salt, opts: opts, id: id, own: own,
		latency: newLatency(opts.Slow), senders: map[string]*steps{id: own},
	}
}

func defaults(o *Options) {
	o.Alpha = cmp.Or(o.Alpha, .01)
	o.Tolerance = cmp.Or(o.Tolerance, 1.25)
	o.SlowTolerance = cmp.Or(o.SlowTolerance, 1.1)
}

func (o Options) check() error {
	switch {
	case !(o.Alpha > 0 && o.Alpha <= .5):
		return fmt.Errorf("judge: Alpha is %v: choose a probability above 0 and up to 0.5, such as 0.01", o.Alpha)
	case !(o.Tolerance >= 1 && o.Tolerance <= 1000):
		return fmt.Errorf("judge: Tolerance is %v: choose a relative risk from 1 to 1000, such as 1.25", o.Tolerance)
	case !(o.SlowTolerance >= 1 && o.SlowTolerance <= 1000):
		return fmt.Errorf("judge: SlowTolerance is %v: choose a relative risk from 1 to 1000, such as 1.1", o.SlowTolerance)
	case o.Slow < 0:
		return fmt.Errorf("judge: Slow is %v: choose a duration above 0, or 0 for none", o.Slow)
	case o.Settle < 0:
		return fmt.Errorf("judge: Settle is %v: choose the longest timeout of a request, or 0", o.Settle)
	}
	return nil
}

// Again returns the Analysis for a new try after a rollback. With a new salt, that is one without evidence. With the same salt,
// the old evidence goes on, and so does a verdict of Regression: the cohort has the same units as before, and if the rollback
// was by chance, the units that caused it would cause the next one too.
func (a *Analysis) Again(salt string) *Analysis {
	if salt == a.salt || salt == "" {
		return a
	}
	return newAnalysis(salt, a.opts)
}

// Observe counts an outcome, and reports whether the evidence has changed, so that Verdict may be another one.
func (a *Analysis) Observe(o Outcome) (changed bool) {
	weight := quantise(o.Weight)
	set := a.latency.cuts.Load().exceeded(o.Reported, o.Took)
	switch o.Result {
	case Panicked:
		set |= 1<<badKind | 1<<panicKind
	case Bad:
		set |= 1 << badKind
	}
	if !o.Canary && !o.Running {
		a.latency.learn(o.Took)
	}
	if !randomised(weight) {
		return false
	}
	if o.Reported == 0 {
		a.own.at(weight).n[requestsOf(o.Canary)].Add(1)
	}
	if o.Unit != "" && !a.keyed.Load() {
		a.keyed.Store(true)
	}
	if set == 0 {
		return false
	}
	e := event{hash: a.hash(o.Unit), set: set, first: first{began: o.Began, weight: uint16(weight), canary: o.Canary}}
	if a.opts.Settle == 0 {
		return a.count(e)
	}
	a.wait(e, o.Took)
	return false
}

// Assigned counts that a request was assigned to a side by a weight. Call Assigned when the side is decided: the outcomes of the
// slower side come later, so their numbers are not those of the weight. The clock of now is that of Outcome.Began. The result is
// that of Observe.
func (a *Analysis) Assigned(unit string, weight float64, canary bool, now time.Duration) (changed bool) {
	w := quantise(weight)
	hash := a.hash(unit)
	if unit != "" && !a.keyed.Load() {
		a.keyed.Store(true)
	}
	if !randomised(w) || hash%sampled != 0 {
		return false
	}
	return a.count(event{hash: hash, set: 1 << assigned, first: first{began: now, weight: uint16(w), canary: canary}})
}

// LeaveOut counts a request that is no evidence because it was not routed by the weight alone: its side was forced, it was a
// shadow request, or there was no room on its side. Do not pass such a request to Observe or Assigned.
func (a *Analysis) LeaveOut(canary bool) { a.own.at(0).n[requestsOf(canary)].Add(1) }

// Settle counts the events of the requests that began at least Options.Settle before now, and reports whether the evidence has
// changed. The clock is that of Outcome.Began. Without Options.Settle, Settle does nothing.
func (a *Analysis) Settle(now time.Duration) (changed bool) {
	a.mu.Lock()
	due := a.pending.take(now - a.opts.Settle)
	a.mu.Unlock()
	for _, e := range due {
		changed = a.count(e) || changed
	}
	return changed
}

// Thresholds returns the thresholds of the latency that are known, in rising order of their kinds: the quantiles of stable, and
// Options.Slow. A request should be reported as running when it has been running for one of them, best for the longest.
func (a *Analysis) Thresholds() (all []time.Duration) {
	for _, cut := range a.latency.cuts.Load() {
		if cut > 0 {
			all = append(all, cut)
		}
	}
	return all
}

// hash returns a hash of a unit, which is 0 without a unit. The hash is independent of the point that decides the side of the
// unit, and has 53 bits.
func (a *Analysis) hash(unit string) uint64 {
	if unit == "" {
		return 0
	}
	return max(1, uint64(cohort.Point(a.hashing, unit)*(1<<53)))
}

// wait lets an event wait until it is settled.
func (a *Analysis) wait(e event, took time.Duration) {
	if took > a.opts.Settle {
		a.late.Add(1)
	}
	e.mark = markOf(e.hash)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending.add(e)
}

// count counts an event of each kind of the set: each event of a request without a unit, and the first one of a unit.
func (a *Analysis) count(e event) (changed bool) {
	if e.hash == 0 {
		s := a.own.at(int(e.first.weight))
		for kind := range kinds {
			if e.set&(1<<kind) != 0 {
				s.n[eventsOf(kind, e.first.canary)].Add(1)
			}
		}
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for kind := range kinds {
		if e.set&(1<<kind) != 0 && a.units[kind].add(e.hash, e.first) {
			a.sender.log = append(a.sender.log, entry{kind: kind, hash: e.hash, first: e.first})
			changed = true
		}
	}
	return changed
}

// Verdict weighs the evidence. Call Verdict whenever Observe, Assigned, Settle or Ingest reports that the evidence has changed.
// Each call may find a regression, and all calls together are wrong with a probability of at most Alpha.
func (a *Analysis) Verdict() Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tally()
	return a.decide(t, a.opts.weigh(t, &a.memos))
}

// decide returns the verdict, and remembers a Regression. The caller holds mu.
func (a *Analysis) decide(t tally, e evidence) Verdict {
	limit := -math.Log(a.opts.Alpha)
	suspended := e.assignment >= math.Log(suspectAt)
	if !suspended {
		a.peak = max(a.peak, e.all)
	}
	switch {
	case a.latched || !suspended && e.all >= limit:
		a.latched = true
		return Regression
	case suspended:
		return Suspended
	case e.all >= limit/2: // 1/sqrt(alpha)
		return Amber
	case e.pass >= -math.Log(beta) && a.noPass(t) == "":
		return Pass
	}
	return Inconclusive
}

// tally returns the sums over all processes. The caller holds mu.
func (a *Analysis) tally() tally {
	t := make(tally, 0, 8)
	for _, s := range a.senders {
		t.add(s)
	}
	for kind := range a.units {
		a.units[kind].addTo(&t, kind)
	}
	return t
}
