package life

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write states.md")

// cells calls f for each state and event.
func cells(f func(s State, e Event, step Step)) {
	for s := range State(states) {
		for e := range Event(events) {
			f(s, e, Next(s, e))
		}
	}
}

// An event that is impossible in a state changes nothing and asks for nothing.
func TestImpossibleEventsChangeNothing(t *testing.T) {
	cells(func(s State, e Event, step Step) {
		if step.Do == Impossible && step.Next != s {
			t.Errorf("%v in %v is impossible, and leads to %v", e, s, step.Next)
		}
	})
}

// A connection that was closed, cut or moved is never open again.
func TestNothingOpensAgain(t *testing.T) {
	cells(func(s State, e Event, step Step) {
		if !s.Open() && step.Next.Open() {
			t.Errorf("%v in %v leads to %v", e, s, step.Next)
		}
	})
}

// The next state of each action fits the action. The states Parted, Spent, Moved and Ended are entered only by the actions for
// them.
func TestActionsFitTheStates(t *testing.T) {
	cells(func(s State, e Event, step Step) {
		fits := true
		switch step.Do {
		case Restore, Reset, Extend:
			fits = step.Next.Open()
		case EndRead:
			fits = !s.EOF() && step.Next.EOF()
		case Discard:
			fits = s.Open() && step.Next.Lingers()
		case Drop:
			fits = !step.Next.Open() && step.Next != Moved
		case DropUntrack:
			fits = s.Open() && step.Next == Ended
		case Untrack:
			fits = step.Next == Ended || step.Next == Moved
		}
		if step.Next == Ended && s != Ended {
			fits = fits && (step.Do == Untrack || step.Do == DropUntrack)
		}
		if step.Next.EOF() && !s.EOF() {
			fits = fits && step.Do == EndRead
		}
		if !fits {
			t.Errorf("%v in %v: %v, and then %v", e, s, step.Do, step.Next)
		}
	})
}

// No event makes the package touch the socket of a connection that Move has taken.
func TestMovedStaysMoved(t *testing.T) {
	for e := range Event(events) {
		step := Next(Moved, e)
		if step.Next != Moved || step.Do != Impossible && step.Do != Nothing && step.Do != Untrack {
			t.Errorf("%v: %v, and then %v", e, step.Do, step.Next)
		}
	}
}

// From every state but Moved, Ended can be reached. Every open state can be left by Close, Linger and Cut. Every state can be
// reached from Fresh, Hijacked and Raw.
func TestEveryStateIsReachedAndEnds(t *testing.T) {
	reached := func(from ...State) map[State]bool {
		seen := map[State]bool{}
		for len(from) > 0 {
			s := from[0]
			if from = from[1:]; seen[s] {
				continue
			}
			seen[s] = true
			for e := range Event(events) {
				from = append(from, Next(s, e).Next)
			}
		}
		return seen
	}
	if all := reached(Fresh, Hijacked, Raw); len(all) != states {
		t.Errorf("reached: %v", all)
	}
	for s := range State(states) {
		if !reached(s)[Ended] && s != Moved {
			t.Errorf("%v never ends", s)
		}
		for _, e := range []Event{Close, Linger, Cut} {
			if s.Open() && Next(s, e).Next.Open() {
				t.Errorf("%v does not end %v", e, s)
			}
		}
	}
}

// States, events and actions have names. For a number that is no state, String does not panic.
func TestNames(t *testing.T) {
	names := map[string]bool{}
	for s := range State(states) {
		names[s.String()] = true
	}
	if len(names) != states || Ended.String() != "Ended" || Release.String() != "Release" || Untrack.String() != "Untrack" {
		t.Errorf("names: %v, %v, %v, %v", names, Ended, Release, Untrack)
	}
	if got := State(states).String(); got != fmt.Sprint(states) {
		t.Errorf("a state that is none: %q", got)
	}
}

// owned are the states in which net/http owns the connection. If an event leads from all of these states to the same state
// outside, the diagram draws a single arrow.
var owned = []State{Fresh, Arriving, Active, Rested, Idle, Begun, Noted, Reading, Parted}

// shared reports whether an event leads from all owned states to the same state next, and next is not an owned state.
func shared(e Event) (next State, ok bool) {
	next = Next(owned[0], e).Next
	for _, s := range owned {
		if Next(s, e).Next != next {
			return 0, false
		}
	}
	return next, !slices.Contains(owned, next)
}

// diagram returns the table as a diagram, without the events that do not change the state.
func diagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    [*] --> Fresh: accepted for net/http\n    [*] --> Hijacked: accepted by ServeFunc\n" +
		"    [*] --> Raw: accepted by ServeTCP\n    state Owned {\n")
	arrows := func(indent, from string, to func(e Event) (State, bool)) {
		names := map[State][]string{}
		for e := range Event(events) {
			if next, ok := to(e); ok {
				names[next] = append(names[next], e.String())
			}
		}
		for next := range State(states) {
			if len(names[next]) > 0 {
				fmt.Fprintf(&b, "%s%s --> %v: %s\n", indent, from, next, strings.Join(names[next], ", "))
			}
		}
	}
	single := func(s State) func(e Event) (State, bool) {
		return func(e Event) (State, bool) {
			_, all := shared(e)
			next := Next(s, e).Next
			return next, next != s && !(all && slices.Contains(owned, s))
		}
	}
	inside := func(s State, is bool) func(e Event) (State, bool) {
		return func(e Event) (State, bool) {
			next, ok := single(s)(e)
			return next, ok && slices.Contains(owned, next) == is
		}
	}
	for _, s := range owned {
		arrows("        ", s.String(), inside(s, true))
	}
	b.WriteString("    }\n")
	for _, s := range owned {
		arrows("    ", s.String(), inside(s, false))
	}
	arrows("    ", "Owned", shared)
	for s := range State(states) {
		if !slices.Contains(owned, s) {
			arrows("    ", s.String(), single(s))
		}
	}
	b.WriteString("    Moved --> [*]\n    Ended --> [*]\n")
	return b.String()
}

// grid is the whole table in Markdown.
func grid() string {
	var b strings.Builder
	b.WriteString("| event |")
	for s := range State(states) {
		fmt.Fprintf(&b, " %v |", s)
	}
	b.WriteString("\n|" + strings.Repeat(" --- |", states+1) + "\n")
	for e := range Event(events) {
		fmt.Fprintf(&b, "| %v |", e)
		for s := range State(states) {
			switch step := Next(s, e); {
			case step.Do == Impossible:
				b.WriteString(" – |")
			case step.Do == Nothing && step.Next == s:
				b.WriteString(" · |")
			case step.Do == Nothing:
				fmt.Fprintf(&b, " **%v** |", step.Next)
			case step.Next == s:
				fmt.Fprintf(&b, " %v |", step.Do)
			default:
				fmt.Fprintf(&b, " %v, **%v** |", step.Do, step.Next)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// The page states.md agrees with the table. Run the test with -update to write the page.
func TestPage(t *testing.T) {
	const file = "states.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for mark, want := range map[string]string{"diagram": "```mermaid\n" + diagram() + "```\n", "table": grid()} {
		begin, end := "<!-- "+mark+" -->\n", "<!-- end of the "+mark+" -->\n"
		before, rest, ok := strings.Cut(text, begin)
		got, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no %q and %q", file, begin, end)
		}
		if *update {
			text = before + begin + want + end + after
		} else if got != want {
			t.Errorf("the %s of %s is not that of the code; run go test -update\ngot:\n%s\nwant:\n%s", mark, file, got, want)
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
