package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"
)

// A member is one of the processes of a cluster.
type member struct {
	control
	known map[string]bool // the aborts of an operator that the state of this process takes into account
}

// A letter is a message with the head of a process at a time.
type letter struct {
	head  []byte
	known map[string]bool
}

// A cluster has processes that exchange their machines by messages which may be lost, come late, and come twice. The process 0 leads.
type cluster struct {
	t       *testing.T
	rng     *rand.Rand
	all     []*member
	letters []letter
	aborts  int
	settled map[string]bool // the aborts that the leader knew when it was resumed or promoted last
	worse   bool            // there was a rollback
	path    []string        // what has happened
}

func newCluster(t *testing.T, seed uint64) *cluster {
	c := &cluster{t: t, rng: rand.New(rand.NewPCG(seed, 4))}
	c.add(2 + c.rng.IntN(3))
	return c
}

// add adds processes.
func (c *cluster) add(n int) {
	for i := range n {
		m := &member{known: map[string]bool{}}
		m.start(Steps{{Weight: .1}, {Weight: .2}, {Weight: .4}}, true, fmt.Sprint("process ", i))
		c.all = append(c.all, m)
	}
}

// letter returns a message of a process.
func (c *cluster) letter(i int) letter {
	head, err := json.Marshal(c.all[i].head())
	if err != nil {
		c.t.Fatal(err)
	}
	return letter{head, maps.Clone(c.all[i].known)}
}

// give gives a process a message, and reports whether the process has a newer machine than the message.
func (c *cluster) give(i int, l letter) (older bool) {
	var h head
	if err := json.Unmarshal(l.head, &h); err != nil {
		c.t.Fatal(err)
	}
	_, older = c.all[i].join(h)
	maps.Copy(c.all[i].known, l.known)
	return older
}

// leader gives the leader an event.
func (c *cluster) leader(e event) {
	m := c.all[0]
	if e == onLast && m.machine.step < len(m.plan)-1 {
		e = onStep
	} else if e == onStep && m.machine.step >= len(m.plan)-1 {
		e = onLast
	}
	if !m.fire(e, fmt.Sprintf("%v %d", e, len(c.path)), 0) {
		return
	}
	c.path = append(c.path, "leader: "+e.String())
	switch e {
	case onResume, onPromote:
		c.settled = maps.Clone(m.known)
	case onWorse:
		c.worse = true
	case onAbort:
		c.abort(m)
	}
}

// abort notes that an operator has aborted in a process.
func (c *cluster) abort(m *member) {
	c.aborts++
	m.known[fmt.Sprint("abort ", c.aborts)] = true
}

// act lets something happen.
func (c *cluster) act() {
	i, to := c.rng.IntN(len(c.all)), c.rng.IntN(len(c.all))
	switch n := c.rng.IntN(200); {
	case n < 30: // a message, or a message that has come before, arrives late
		if len(c.letters) > 0 {
			k := c.rng.IntN(len(c.letters))
			c.give(to, c.letters[k])
			c.path = append(c.path, fmt.Sprintf("message %d reaches %d", k, to))
		}
	case n < 80: // a message arrives
		c.give(to, c.letter(i))
		c.path = append(c.path, fmt.Sprintf("%d reaches %d", i, to))
	case n < 110: // a message is on its way
		c.letters = append(c.letters, c.letter(i))
		c.path = append(c.path, fmt.Sprintf("%d sends message %d", i, len(c.letters)-1))
	case n < 130:
		if m := c.all[i]; m.fire(onAbort, fmt.Sprintf("abort %d", len(c.path)), 0) {
			c.path = append(c.path, fmt.Sprintf("%d: abort", i))
			c.abort(m)
		}
	case n < 199:
		c.leader([]event{onReady, onReady, onStep, onStep, onGate, onPause, onResume, onResume, onResume, onPromote, onAbort, onOpinion, onLate}[c.rng.IntN(13)])
	case c.rng.IntN(10) == 0:
		c.leader(onWorse)
	}
}

// exchange lets each process send to each other one, and a process that is told something older send once more.
func (c *cluster) exchange() {
	var queue []int
	for i := range c.all {
		queue = append(queue, i)
	}
	for n := 0; len(queue) > 0; n++ {
		if n > 100 {
			c.t.Fatalf("the processes do not stop to send: %v", c.path)
		}
		from := queue[0]
		queue = queue[1:]
		l := c.letter(from)
		for to := range c.all {
			if to != from && c.give(to, l) {
				queue = append(queue, to)
			}
		}
	}
}

// Whatever messages are lost, come late, come twice and in another order: when each process reaches each other one again, all have the
// same state. An abort that the leader did not know of when it was resumed or promoted last holds; if there is none, the state is that
// of the leader, so that no Resume is lost.
func TestProcessesAgreeAndLoseNoAbort(t *testing.T) {
	var aborted, resumed int
	for seed := range uint64(3000) {
		c := newCluster(t, seed)
		for range 10 + c.rng.IntN(90) {
			c.act()
		}
		before := c.all[0].machine
		c.exchange()
		got := c.all[0].machine
		for i, m := range c.all {
			if !m.machine.same(&got) || m.Weight() != c.all[0].Weight() || m.machine.self != fmt.Sprint("process ", i) {
				t.Fatalf("seed %d: the leader is %+v, and process %d is %+v: %q", seed, got, i, m.machine, c.path)
			}
		}
		open := false // there is an abort of which the leader did not know
		for i := range c.aborts {
			open = open || !c.settled[fmt.Sprint("abort ", i+1)]
		}
		switch {
		case c.worse && got.state != RolledBack:
			t.Fatalf("seed %d: a rollback is lost: %+v: %q", seed, got, c.path)
		case c.worse:
		case open && (got.state != Aborted || c.all[0].Weight() != 0):
			t.Fatalf("seed %d: an abort is lost: %+v: %q", seed, got, c.path)
		case open:
			aborted++
		case got.state != before.state || got.step != before.step || got.reason != before.reason || got.turn != before.turn:
			t.Fatalf("seed %d: the leader was %+v, and is %+v: %q", seed, before, got, c.path)
		case len(c.settled) > 0:
			resumed++
		}
	}
	if aborted < 250 || resumed < 250 {
		t.Errorf("%d runs with an open abort, and %d in which all aborts were undone: too few to show something", aborted, resumed)
	}
}

// A late abort of which the leader knew when it was resumed does not undo the Resume, though the messages come in such an order that
// another process has joined more machines than the leader has, or machines with more changes.
func TestKnownAbortDoesNotUndoAResume(t *testing.T) {
	send := func(from, to int) func(*cluster) { return func(c *cluster) { c.give(to, c.letter(from)) } }
	fire := func(i int, events ...event) func(*cluster) {
		return func(c *cluster) {
			for _, e := range events {
				if !c.all[i].fire(e, "test", 0) {
					t.Errorf("%v changes nothing in process %d: %+v", e, i, c.all[i].machine)
				}
			}
		}
	}
	const a, b, d = 1, 2, 3 // the processes beside the leader
	for name, story := range map[string][]func(*cluster){
		"more machines": {
			fire(a, onAbort), fire(b, onAbort), fire(0, onAbort, onResume, onReady),
			send(a, b), send(0, a), send(d, a), send(b, 0), fire(0, onResume), send(b, a),
		},
		"more changes": {
			fire(a, onAbort), fire(0, onAbort, onResume, onReady), send(0, b), fire(b, onAbort),
			fire(0, onPause, onResume, onPause, onResume, onPause, onResume), send(0, d), send(a, d),
			send(b, 0), fire(0, onResume), send(a, 0), fire(0, onResume), send(b, d),
		},
	} {
		c := &cluster{t: t}
		c.add(4)
		fire(0, onReady)(c)
		for i := range 3 {
			send(0, i+1)(c)
		}
		for _, act := range story {
			act(c)
		}
		c.exchange()
		for i, m := range c.all {
			if m.machine.state != Waiting {
				t.Errorf("%s: process %d is %+v", name, i, m.machine)
			}
		}
	}
}

// Two processes that decide at once, as both may lead for a moment at a handover, get the same state, which is that of one of them. A
// step that both have ended has ended once.
func TestTwoDecisionsAtOnceBecomeOne(t *testing.T) {
	for _, c := range []struct{ one, two []event }{
		{[]event{onStep}, []event{onStep}}, {[]event{onStep}, []event{onSuspect}}, {[]event{onStep, onStep}, []event{onPause, onResume}},
		{[]event{onOpinion}, []event{onTooLate}}, {[]event{onWorse}, []event{onWorse}}, {[]event{onStep, onWorse}, []event{onWorse}},
		{[]event{onLast}, []event{onPause}}, {[]event{onGate, onResume}, []event{onPause, onResume}},
	} {
		for _, first := range []int{0, 1} {
			both := &cluster{t: t}
			both.add(2)
			both.all[0].fire(onReady, "ready", 0)
			both.give(1, both.letter(0))
			for i, events := range [][]event{c.one, c.two} {
				for _, e := range events {
					if !both.all[i].fire(e, fmt.Sprintf("%v in process %d", e, i), 0) {
						t.Errorf("%v changes nothing", e)
					}
				}
			}
			was := [2]machine{both.all[0].machine, both.all[1].machine}
			l := both.letter(1 - first)
			both.give(1-first, both.letter(first))
			both.give(first, l)
			x, y := both.all[0].machine, both.all[1].machine
			if was[0].state == was[1].state && was[0].turn == was[1].turn && x.step != min(was[0].step, was[1].step) {
				t.Errorf("%v and %v: step %d, not the smaller weight", c.one, c.two, x.step)
			}
			if !x.same(&y) || x.reason != y.reason || !(x.reason == was[0].reason && x.step == was[0].step || x.reason == was[1].reason && x.step == was[1].step) {
				t.Errorf("%v and %v: %+v and %+v", c.one, c.two, x, y)
			}
		}
	}
}

// A step that a process has looked at, and that another process has ended since, does not end once more.
func TestStepOfAnotherProcessDoesNotEnd(t *testing.T) {
	both := &cluster{t: t}
	both.add(2)
	mine, other := both.all[0], both.all[1]
	mine.fire(onReady, "ready", 0)
	both.give(1, both.letter(0))
	mine.fire(onPause, "pause", 0) // as many changes as in the other process, and another step
	mine.fire(onResume, "resume", 0)
	other.fire(onStep, "step", 0)
	other.fire(onStep, "step", 0)
	l := other.look()
	both.give(1, both.letter(0))
	other.end(l, time.Now(), 0, func(*machine, int) (event, string, bool) { return onStep, "end", true })
	if other.machine.step != 0 || !other.machine.same(&mine.machine) {
		t.Errorf("the process has %+v, and the other one %+v", other.machine, mine.machine)
	}
	other.end(other.look(), time.Now(), 0, func(*machine, int) (event, string, bool) { return onStep, "end", true })
	if other.machine.step != 1 {
		t.Errorf("the step has not ended: %+v", other.machine)
	}
}

// However many processes are aborted by an operator, a message has room for the counts, and each further abort still counts.
func TestAbortsStaySmall(t *testing.T) {
	var a aborts
	for i := range 1000 {
		before := a
		a = a.plus(fmt.Sprint("process ", i))
		if !a.has(before) || before.has(a) {
			t.Fatalf("abort %d does not count", i)
		}
	}
	if len(a) != maxAborters+1 {
		t.Errorf("there are %d counts", len(a))
	}
}
