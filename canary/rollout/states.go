package rollout

import (
	"fmt"
	"time"
)

// This file has the states of a rollout, the events, and a table with the meaning of each event in each state. states.md shows
// the states, and a test compares the page with the table.

// A State is the state of a rollout.
type State uint8

// The states.
const (
	// Waiting: the canary is not ready, or Run was not called. The weight is 0.
	Waiting State = iota
	// Ramping: the canary has the weight of a step. The step ends by itself.
	Ramping
	// Gated: a step with a gate has ended. The weight stays. Resume begins the next step.
	Gated
	// Paused: an operator has paused the rollout. The weight stays. Resume goes on.
	Paused
	// Held: the policy Hold, because the step did not end in time (Options.Late), or because the canary is worse (Options.Worse).
	// The weight stays.
	Held
	// Promoted: the canary gets all requests.
	Promoted
	// Aborted: an operator, the deadline of a step or the external judge has taken the rollout back. The weight is 0. Resume
	// begins again with the first step.
	Aborted
	// RolledBack: the canary is worse than stable, or a guard has tripped: Options.Panics or Options.MaxBad. The weight is 0. This
	// is the last state: a new rollout needs a new release, with a new salt.
	RolledBack
	states
)

var stateNames = [states]string{"waiting", "ramping", "gated", "paused", "held", "promoted", "aborted", "rolled back"}

// String returns the name of the state in lower case.
func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText returns the text of String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the text of String.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("rollout: there is no state %q", text)
}

// An event is an event in the life of a rollout.
type event uint8

const (
	onReady   event = iota // the canary is ready
	onStep                 // the step has ended, and another one follows
	onGate                 // the step has ended, and has a gate that was not passed
	onLast                 // the last step has ended
	onLate                 // the step did not end in time, and the policy is Hold
	onTooLate              // the step did not end in time, and the policy is RollBack
	onSuspect              // the canary is worse, and the policy is Hold
	onWorse                // the canary is worse, or a guard has tripped
	onOpinion              // the external judge takes the rollout back
	onPause                // the operator calls Pause
	onResume               // the operator calls Resume
	onPromote              // the operator calls Promote
	onAbort                // the operator calls Abort
	events
)

var eventNames = [events]string{"ready", "step", "gate", "last", "late", "tooLate", "suspect", "worse", "opinion", "pause", "resume", "promote", "abort"}

func (e event) String() string { return eventNames[e] }

// A cell is the meaning of an event in a state: the next state, and an action, which may be nil.
type cell struct {
	next State
	do   func(*machine)
}

type row map[event]cell

// safety has the events that take the rollout back from each state in which the canary may have a weight.
var safety = row{
	onWorse:   {RolledBack, nil},
	onAbort:   {Aborted, (*machine).abort},
	onOpinion: {Aborted, nil},
}

// table is the table. An event without a cell changes nothing in that state.
var table = [states]row{
	Waiting: safety.with(row{
		onReady: {Ramping, (*machine).first},
		onPause: {Paused, nil},
	}),
	Ramping: safety.with(row{
		onStep:    {Ramping, (*machine).following},
		onGate:    {Gated, nil},
		onLast:    {Promoted, nil},
		onLate:    {Held, nil},
		onTooLate: {Aborted, nil},
		onSuspect: {Held, nil},
		onPause:   {Paused, nil},
		onPromote: {Promoted, nil},
	}),
	Gated: safety.with(row{
		onSuspect: {Held, nil},
		onPause:   {Paused, nil},
		onResume:  {Ramping, (*machine).pass},
		onPromote: {Promoted, nil},
	}),
	Paused: safety.with(row{
		onSuspect: {Held, nil},
		onResume:  {Ramping, (*machine).goOn},
		onPromote: {Promoted, nil},
	}),
	Held: safety.with(row{
		onResume:  {Ramping, (*machine).retry},
		onPromote: {Promoted, nil},
	}),
	Promoted: safety,
	Aborted: {
		onWorse:   {RolledBack, nil},
		onResume:  {Waiting, (*machine).again},
		onPromote: {Promoted, nil},
	},
	RolledBack: {},
}

func (r row) with(more row) row {
	all := row{}
	for _, cells := range []row{r, more} {
		for e, c := range cells {
			all[e] = c
		}
	}
	return all
}

// A machine is a rollout without its evidence: the state, the step, and the time in the step. A machine calls nobody, has no
// clock, and never waits.
type machine struct {
	state  State
	step   int           // the index of the step; -1 before the first one
	passed bool          // the gate of the step was passed
	spent  time.Duration // the time in the step until the time in the field since
	since  time.Time     // since when the time of the step goes on; zero while it stands still
	began  uint64        // the requests that the canary had ended when the step began
	reason string        // why the state is what it is
	turn   uint64        // how many changes there were, in all processes
	self   string        // the name of this process
	aborts aborts        // how many of the changes were aborts by an operator
	now    time.Time     // of the event
	ended  uint64        // the requests that the canary has ended until the event
}

// fire changes the state by the table, and reports whether anything has changed.
func (m *machine) fire(e event, reason string, now time.Time, ended uint64) (changed bool) {
	c, ok := table[m.state][e]
	if !ok {
		return false
	}
	m.now, m.ended = now, ended
	m.spent, m.since = m.inStep(now), time.Time{}
	m.state, m.reason = c.next, reason
	if c.do != nil {
		c.do(m)
	}
	if m.state == Ramping {
		m.since = now
	}
	m.turn++
	return true
}

// inStep returns how long the step lasts, without pauses.
func (m *machine) inStep(now time.Time) time.Duration {
	if m.since.IsZero() {
		return m.spent
	}
	return m.spent + max(0, now.Sub(m.since))
}

// lastsFrom makes the step begin to last at a time.
func (m *machine) lastsFrom(now time.Time) {
	if m.state == Ramping {
		m.spent, m.since = 0, now
	}
}

func (m *machine) first() { m.begin(0) }

func (m *machine) following() { m.begin(m.step + 1) }

func (m *machine) begin(step int) {
	m.step, m.passed, m.spent, m.began = step, false, 0, m.ended
}

// pass passes the gate. The step, whose conditions are still met, then ends at the next look.
func (m *machine) pass() { m.passed = true }

// goOn goes on with the step. A rollout that was paused before its first step waits again until the canary is ready.
func (m *machine) goOn() {
	if m.step < 0 {
		m.state = Waiting
	}
}

// retry goes on with the step, which lasts its whole time again.
func (m *machine) retry() {
	m.goOn()
	m.spent, m.began = 0, m.ended
}

func (m *machine) again() { m.step, m.passed, m.spent = -1, false, 0 }

func (m *machine) abort() { m.aborts = m.aborts.plus(m.self) }

// weight returns the share of the canary by a plan.
func (m *machine) weight(plan Steps) float64 {
	switch m.state {
	case Promoted:
		return 1
	case Ramping, Gated, Paused, Held:
		if m.step >= 0 && len(plan) > 0 {
			return plan[min(m.step, len(plan)-1)].Weight
		}
	}
	return 0
}
