package judge

import (
	"crypto/rand"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/cohort"
)

// An Analysis has the evidence about the canary of one rollout.
type Analysis struct {
	salt    string // of the cohort
	hashing string // the salt of the hashes of this package
	given   Options
	opts    atomic.Pointer[Options] // in force; changes only while mu is held
	latency *latency
	keyed   atomic.Bool   // there was a unit
	began   atomic.Int64  // the beginning of the first request that counts, or the greatest number
	late    atomic.Uint64 // events that came after they should have been settled

	mu sync.Mutex // the counters of ledger.own are atomic, and change without mu
	*ledger
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
	a := &Analysis{
		salt: salt, hashing: "judge\x01" + salt, given: opts, latency: newLatency(opts.Slow, opts.Fast), ledger: newLedger(),
	}
	a.own = newSender(rand.Text())
	a.senders[a.own.id] = a.own
	a.opts.Store(&opts)
	a.began.Store(math.MaxInt64)
	return a
}

// Again returns the Analysis for a new try after a rollback. With a new salt, that is one without evidence, and with the options
// that New of this process had. With the same salt, the old evidence goes on, and so does a verdict of Regression: the cohort has
// the same units as before, and if the rollback was by chance, the units that caused it would cause the next one too.
func (a *Analysis) Again(salt string) *Analysis {
	if salt == a.salt || salt == "" {
		return a
	}
	return newAnalysis(salt, a.given)
}

// Observe counts an outcome, and reports whether the evidence has changed, so that Verdict may be another one.
func (a *Analysis) Observe(o Outcome) (changed bool) {
	weight := quantise(o.Weight)
	set := o.kinds(a.latency.cuts.Load())
	if !o.Canary && !o.Running && o.Result == Good {
		a.latency.learn(o.Took)
	}
	if !randomised(weight) {
		return false
	}
	a.seen(o.Began)
	at := a.draws(weight, o.Canary)
	at.ended(&o)
	if o.Unit != "" && !a.keyed.Load() {
		a.keyed.Store(true)
	}
	if set == 0 {
		return false
	}
	e := event{hash: a.hash(o.Unit), set: set, first: a.first(o.Began, at.weight, o.Canary)}
	settle := a.opts.Load().Settle
	if settle == 0 {
		return a.count(e)
	}
	if o.Took > settle {
		a.late.Add(1)
	}
	return a.wait(e)
}

// draws returns the counters for a request that was drawn by a weight.
func (a *Analysis) draws(weight int, canary bool) *step {
	at := a.own.draws(weight)
	if at.weight != weight {
		a.own.at(0).n[roundedOf(canary)].Add(1)
	}
	return at
}

// every is how often an assignment without a unit is reported as a change: each time would be a Verdict for each request.
const every = 64

// Assigned counts that a request was assigned to a side by a weight. Call Assigned when the side is decided: the outcomes of the
// slower side come later, so their numbers are not those of the weight. The clock of now is that of Outcome.Began. The result is
// that of Observe; of the requests without a unit, only each 64th is reported as a change.
func (a *Analysis) Assigned(unit string, weight float64, canary bool, now time.Duration) (changed bool) {
	w := quantise(weight)
	hash := a.hash(unit)
	if unit != "" && !a.keyed.Load() {
		a.keyed.Store(true)
	}
	if !randomised(w) || hash%sampled != 0 {
		return false
	}
	a.seen(now)
	at := a.draws(w, canary)
	if at.weight != w {
		return false
	}
	if hash == 0 {
		return at.n[eventsOf(assigned, canary)].Add(1)%every == 0
	}
	if hash >= a.units[assigned].limit.Load() || a.recent.has(hash, now) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	changed = a.add(entry{key: key{kind: assigned, hash: hash}, first: a.first(now, w, canary)})
	if f, ok := a.units[assigned].first[hash]; ok {
		a.recent.add(hash, f.began)
	}
	return changed
}

// LeaveOut counts a request that is no evidence because it was not routed by the weight alone: its side was forced, it was a
// shadow request, or there was no room on its side. Do not pass such a request to Observe or Assigned.
func (a *Analysis) LeaveOut(canary bool) { a.own.at(0).n[requestsOf(canary)].Add(1) }

// Settle counts the events of the requests that began at least Options.Settle before now, and reports whether the evidence has
// changed. The clock is that of Outcome.Began. Events that another process has left waiting, and that have come with a state of
// this process, are counted too. Without Options.Settle, Settle does nothing.
func (a *Analysis) Settle(now time.Duration) (changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	settle := a.opts.Load().Settle
	if settle == 0 {
		return false
	}
	for _, s := range a.senders {
		changed = a.settle(s, now-settle) || changed
	}
	return changed
}

// Thresholds returns the thresholds of the latency that are known, in rising order of their kinds: the quantiles of stable, and
// Options.Slow. Report a running request after each of these durations, or at least after the longest one.
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
	return max(1, uint64(cohort.Point(a.hashing, unit)*hashes))
}

// seen remembers the beginning of the first request.
func (a *Analysis) seen(began time.Duration) {
	for {
		old := a.began.Load()
		if int64(began) >= old || a.began.CompareAndSwap(old, int64(began)) {
			return
		}
	}
}

func (a *Analysis) first(began time.Duration, weight int, canary bool) first {
	return first{began: began, weight: uint32(weight), canary: canary, from: a.own}
}

// An event is an outcome that is evidence, of one or several kinds.
type event struct {
	hash  uint64 // of the unit, or 0
	set   uint
	first first
}

// count counts an event at once. For a request without a unit, it takes no lock.
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
		if e.set&(1<<kind) != 0 {
			changed = a.add(entry{key: key{kind: kind, hash: e.hash}, first: e.first}) || changed
		}
	}
	return changed
}

// wait lets an event wait until it is settled. It is counted at once if the events of its time are settled.
func (a *Analysis) wait(e event) (changed bool) {
	if e.hash == 0 {
		e.hash = newRequest()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for kind := range kinds {
		k := key{kind: kind, hash: e.hash}
		switch {
		case e.set&(1<<kind) == 0:
		case e.first.began <= a.own.settled:
			changed = a.add(entry{key: k, first: e.first}) || changed
		default:
			a.own.wait(k, e.first)
		}
	}
	return changed
}

// Verdict returns the verdict for the evidence so far. Call Verdict whenever Observe, Assigned, Settle or Ingest reports that the
// evidence has changed. Each call may find a regression, and all calls together are wrong with a probability of at most Alpha.
func (a *Analysis) Verdict() Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, exact := a.tally()
	return a.decide(a.opts.Load().weigh(t, &a.memos), a.noPass(t, exact))
}

// decide returns the verdict, and remembers a Regression. The caller holds mu.
func (a *Analysis) decide(e evidence, noPass string) Verdict {
	limit := -math.Log(a.opts.Load().Alpha)
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
	case e.pass >= -math.Log(beta) && noPass == "":
		return Pass
	}
	return Inconclusive
}

// Counts returns the counts of both sides at all weights together, as in Status.
func (a *Analysis) Counts() (stable, canary Counts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, _ := a.tally()
	return t.side(false), t.side(true)
}
