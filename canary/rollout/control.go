package rollout

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A control has the machine and the plan of a rollout, and the weight that follows from them. Its lock is held for moments
// only, and no function is called meanwhile.
type control struct {
	weight atomic.Uint64 // the bits of the weight in force

	mu      sync.Mutex
	machine machine
	plan    Steps
	refused string // why the last plan was refused; empty if it was not
	opinion Opinion
	ready   bool          // the canary is ready
	set     float64       // the weight that SetWeight has set last
	driven  error         // the error of the last call of SetWeight
	news    [2][]Decision // the decisions that are not logged yet, and those that Decided has not got yet
	history []Decision    // the last decisions
	changed chan struct{} // closed and replaced at each change
}

const (
	maxDecisions = 50  // the number of decisions that are kept
	maxReason    = 512 // the bytes of a reason, so that it fits into a message to other processes

	toLog, toTell = 0, 1 // the places in news
)

// start makes a control ready for use. name is that of this process.
func (c *control) start(plan Steps, ready bool, name string) {
	c.machine, c.plan, c.ready, c.changed = machine{step: -1, self: name}, slices.Clone(plan), ready, make(chan struct{})
}

// Weight returns the share of the canary. It is made for canary.Options.Weight and for flags.Guarded, and is one atomic load.
func (c *control) Weight() float64 { return math.Float64frombits(c.weight.Load()) }

// fire gives the machine an event, and reports whether anything has changed. The new weight is in force when fire returns.
// ended is how many requests the canary has ended, if the event begins a step.
func (c *control) fire(e event, reason string, ended uint64) (changed bool) {
	reason = cut(reason)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.machine.fire(e, reason, time.Now(), ended) {
		return false
	}
	c.settle(reason)
	return true
}

func cut(reason string) string {
	return strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
}

// settle puts the weight in force, and notes the decision, to be logged and told. The caller holds mu.
func (c *control) settle(reason string) {
	d := c.put(reason)
	for place := range c.news {
		c.news[place] = lastOf(append(c.news[place], d))
	}
}

// put puts the weight in force, and returns the decision. The caller holds mu.
func (c *control) put(reason string) Decision {
	weight := c.machine.weight(c.plan)
	if most := c.opinion.Most; most > 0 {
		weight = min(weight, most)
	}
	c.weight.Store(math.Float64bits(weight))
	d := Decision{At: time.Now(), State: c.machine.state, Step: c.step(), Weight: weight, Reason: reason}
	c.history = lastOf(append(c.history, d))
	close(c.changed)
	c.changed = make(chan struct{})
	return d
}

// lastOf returns the decisions that are kept.
func lastOf(all []Decision) []Decision { return all[max(0, len(all)-maxDecisions):] }

// step returns the number of the step, from 1. A plan that has changed may have fewer steps. The caller holds mu.
func (c *control) step() int { return min(c.machine.step+1, len(c.plan)) }

// take returns decisions that are new for a goroutine of Run.
func (c *control) take(place int) []Decision {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := c.news[place]
	c.news[place] = nil
	return news
}

// change returns a channel that is closed at the next change.
func (c *control) change() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// state returns the state.
func (c *control) state() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine.state
}

// setReady notes that the canary is ready.
func (c *control) setReady() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = true
}

// mayBegin reports whether the canary is ready, and there is a plan.
func (c *control) mayBegin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready && len(c.plan) > 0
}

// setDriven notes that SetWeight has returned. If again is true, or SetWeight had failed before, the step begins to last now, as the
// canary had another weight until now.
func (c *control) setDriven(weight float64, err error, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	again = again || c.driven != nil
	if c.driven = err; err != nil {
		return
	}
	c.set = weight
	if again && weight == c.Weight() {
		c.machine.lastsFrom(time.Now())
	}
}

// follow takes over a plan, or returns why it is refused, once for each reason. Before the first plan, a plan without a step is no
// error: the rollout waits.
func (c *control) follow(plan Steps, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == errNoStep && len(c.plan) == 0:
		c.refused = ""
		return nil
	case err != nil:
		again := err.Error() == c.refused
		c.refused = err.Error()
		if again {
			return nil
		}
		return err
	}
	c.refused = ""
	if !slices.Equal(plan, c.plan) {
		c.plan = slices.Clone(plan)
		c.settle("the plan has changed")
	}
	return nil
}

// hear takes over an opinion that does not take the canary back. An opinion without a weight leaves a lowered weight as it is.
func (c *control) hear(o Opinion) {
	o.Reason = cut(o.Reason)
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.opinion.Most
	if !(o.Most >= 0 && o.Most <= 1) {
		reason := cmp.Or(o.Reason, fmt.Sprintf("Opinion.Most is %v, which is not from 0 to 1", o.Most))
		o = Opinion{Hold: true, Most: before, Reason: reason}
	}
	c.opinion = o
	if o.Most != before {
		c.machine.turn++
		c.settle("the external judge: " + o.Reason)
	}
}

// forget ends the opinion of another process's external judge. The step lasts its whole time again, perhaps at a greater weight. After
// the end of the rollout, the opinion holds up nothing.
func (c *control) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opinion == (Opinion{}) || c.machine.state >= Promoted {
		return
	}
	reason := "this process has no external judge, and ends the opinion of the last one: " + c.opinion.Reason
	c.opinion = Opinion{}
	c.machine.lastsFrom(time.Now())
	c.machine.turn++
	c.settle(cut(reason))
}

// A look is what the end of a step depends on.
type look struct {
	machine machine
	step    Step // the zero Step before the first one
	opinion Opinion
	weight  float64
	set     float64 // the weight that SetWeight has set last
}

// look returns what the end of the step depends on.
func (c *control) look() (l look) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.machine, l.opinion, l.weight, l.set = c.machine, c.opinion, c.Weight(), c.set
	if n := c.step(); n > 0 {
		l.step = c.plan[n-1]
	}
	return l
}

// tick stops the time of the step, or lets it go on.
func (c *control) tick(stop bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m := &c.machine; {
	case m.state != Ramping || m.since.IsZero() == stop:
	case stop:
		m.spent, m.since = m.inStep(now), time.Time{}
	default:
		m.since = now
	}
}

// end fires the end of the step, if the machine is still that of the look: another process's machine may have come since.
func (c *control) end(l look, now time.Time, ended uint64, event func(m *machine, steps int) (e event, reason string, due bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &c.machine
	same := m.turn == l.machine.turn && m.step == l.machine.step && m.since.Equal(l.machine.since)
	if m.state != Ramping || !same || c.step() == 0 {
		return
	}
	if e, reason, due := event(&c.machine, len(c.plan)); due && c.machine.fire(e, reason, now, ended) {
		c.settle(reason)
	}
}

// head returns the machine for another process.
func (c *control) head() head {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &c.machine
	return head{
		State: m.state, Step: m.step + 1, Passed: m.passed, Spent: m.inStep(time.Now()), Began: m.began,
		Reason: m.reason, Turn: m.turn, Aborts: m.aborts, Opinion: c.opinion,
	}
}

// join joins the machine of another process. joined reports whether this process has taken over that machine, and older whether
// the other process has to get the machine of this process.
func (c *control) join(h head) (joined, older bool) {
	other := machine{
		state: h.State, step: h.Step - 1, passed: h.Passed, spent: h.Spent, began: h.Began, reason: h.Reason, turn: h.Turn,
		aborts: h.Aborts,
	}
	if other.state == Ramping {
		other.since = time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	both, joined := c.machine.join(&other)
	if joined {
		c.opinion = h.Opinion
	}
	before := c.machine.state
	c.machine = both
	switch {
	case both.state != before && both.state != other.state:
		c.settle(both.reason) // no process has decided this
	case both.state != before || joined:
		c.put(both.reason) // the other process logs and tells its decisions
	}
	return joined, !both.same(&other)
}

// fill adds the state to a Status.
func (c *control) fill(s *Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.State, s.Reason, s.Step, s.Steps = c.machine.state, c.machine.reason, c.step(), slices.Clone(c.plan)
	s.Weight, s.Decisions = c.Weight(), slices.Clone(c.history)
	if c.opinion != (Opinion{}) {
		o := c.opinion
		s.Opinion = &o
	}
	if c.driven != nil {
		s.SetWeight = c.driven.Error()
	}
}
