package rollout

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// grid has the state to which each event leads. A dot means that nothing changes.
const grid = `
          waiting    ramping    gated      paused     held       promoted   aborted    rolledBack
ready     ramping    .          .          .          .          .          .          .
step      .          ramping    .          .          .          .          .          .
gate      .          gated      .          .          .          .          .          .
last      .          promoted   .          .          .          .          .          .
late      .          held       .          .          .          .          .          .
tooLate   .          aborted    .          .          .          .          .          .
suspect   .          held       held       held       .          .          .          .
worse     rolledBack rolledBack rolledBack rolledBack rolledBack rolledBack rolledBack .
opinion   aborted    aborted    aborted    aborted    aborted    aborted    .          .
pause     paused     paused     paused     .          .          .          .          .
resume    .          .          ramping    ramping    ramping    .          waiting    .
promote   .          promoted   promoted   promoted   promoted   .          promoted   .
abort     aborted    aborted    aborted    aborted    aborted    aborted    .          .
`

// word returns the name of a state as one word.
func word(s State) string { return strings.ReplaceAll(s.String(), "d back", "dBack") }

// Each event leads from each state to the state in the grid, and no event is missing there.
func TestEachEventInEachState(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(grid), "\n")
	header := strings.Fields(lines[0])
	if len(header) != int(states) || len(lines)-1 != int(events) {
		t.Fatalf("the grid has %d states and %d events, want %d and %d", len(header), len(lines)-1, states, events)
	}
	for e := range events {
		fields := strings.Fields(lines[e+1])
		if fields[0] != e.String() || len(fields) != int(states)+1 {
			t.Fatalf("the line of %v is %q", e, lines[e+1])
		}
		for from := range states {
			m := machine{state: from, step: 1, turn: 7}
			changed := m.fire(e, "test", time.Unix(100, 0), 5)
			got := "."
			if changed {
				got = word(m.state)
			}
			if header[from] != word(from) || got != fields[from+1] {
				t.Errorf("%v in %v leads to %q, want %q", e, from, got, fields[from+1])
			}
			if changed != (m.turn == 8) || changed != (m.reason == "test") {
				t.Errorf("%v in %v: changed is %v, and the machine is %+v", e, from, changed, m)
			}
		}
	}
}

// The page states.md has an arrow for each change of the state.
func TestPageShowsTheTable(t *testing.T) {
	page, err := os.ReadFile("states.md")
	if err != nil {
		t.Fatal(err)
	}
	arrows := map[string][]string{}
	for from := range states {
		for e := range events {
			if c, ok := table[from][e]; ok {
				key := fmt.Sprintf("%s --> %s: ", word(from), word(c.next))
				arrows[key] = append(arrows[key], e.String())
			}
		}
	}
	var want []string
	for key, labels := range arrows {
		want = append(want, "    "+key+strings.Join(labels, ", "))
	}
	slices.Sort(want)
	var got []string
	for line := range strings.Lines(string(page)) {
		if line = strings.TrimRight(line, "\n"); strings.Contains(line, "-->") && !strings.Contains(line, "[*]") {
			got = append(got, line)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("states.md has other arrows than the table, which has\n%s", strings.Join(want, "\n"))
	}
}

// All orders of six events give a rollout that keeps its promises: it never comes back from worse, has no weight while it is
// waiting, aborted or rolled back, raises the weight by one step at a time but for Promote, and takes a repeated event as nothing.
func TestAllOrdersOfEvents(t *testing.T) {
	depth := 6
	steps := Steps{{Weight: .1}, {Weight: .2}, {Weight: .4}}
	n := 0
	var try func(m machine, left int, path []event)
	check := func(before, m machine, e event, path []event) {
		w, old := m.weight(steps), before.weight(steps)
		bad := ""
		switch {
		case before.state == RolledBack && m.state != RolledBack:
			bad = "it has come back from a rollback"
		case e == onWorse && w != 0:
			bad = "it has a weight after a regression"
		case (m.state == Waiting || m.state == Aborted || m.state == RolledBack) && w != 0:
			bad = "it has a weight without a canary"
		case w > old && e != onPromote && e != onLast && !(e == onReady && w == .1) && !(e == onStep && m.step == before.step+1):
			bad = fmt.Sprintf("the weight rises from %v to %v", old, w)
		case w > old && before.state == Aborted && e != onPromote:
			bad = "the weight rises after an abort"
		case (e == onAbort || e == onOpinion) && w != 0:
			bad = "it has a weight after an abort"
		case e == onPause && w != old:
			bad = "a pause changes the weight"
		}
		if e == onPause || e == onPromote || e == onAbort || e == onWorse || e == onOpinion {
			again := m
			if again.fire(e, "again", m.now.Add(time.Second), m.ended); again.state != m.state || again.step != m.step {
				bad = "the same event again leads elsewhere"
			}
		}
		if bad != "" {
			t.Fatalf("%v: %s: %+v", path, bad, m)
		}
	}
	try = func(m machine, left int, path []event) {
		n++
		if left == 0 {
			return
		}
		for e := range events {
			if e == onStep && m.step+1 >= len(steps) || e == onLast && m.step+1 < len(steps) {
				continue // due does not give these
			}
			next := m
			if !next.fire(e, e.String(), time.Unix(int64(1000-left), 0), 0) {
				continue
			}
			check(m, next, e, append(path, e))
			try(next, left-1, append(path, e))
			// The process dies, and another one takes over, which has seen less.
			for _, other := range []machine{{step: -1}, m} {
				if _, joined := other.join(&next); !joined {
					t.Fatalf("%v: a process with less does not take over", append(path, e))
				}
				if _, joined := next.join(&other); joined {
					t.Fatalf("%v: a process with more takes over what is older", append(path, e))
				}
			}
		}
	}
	for from := range states {
		step := 0
		if from == Waiting {
			step = -1
		}
		try(machine{state: from, step: step, turn: 1}, depth, nil)
	}
	t.Logf("%d orders", n)
}
