package listener

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// For each state and each event, the gate gets the next state that the table here has. The event sets the deadline that the
// table here has, and gives up the given connections where the table says so. After the event, a reader gets what gate.md
// promises for the state.
func TestGateTakesEachStep(t *testing.T) {
	const program, past, given, waits = "program's deadline", "past deadline", "given up", "waits"
	type want struct{ next, did, reads string }
	through := map[string]want{ // the keys are a state and an event
		"shut open": {"open", program, "socket"}, "shut shut": {"shut", "", waits},
		"shut end": {"ended", past, "closed"}, "shut close": {"closed", given, "closed"},
		"open open": {"open", "", "socket"}, "open shut": {"shut", past, waits},
		"open end": {"ended", past, "closed"}, "open close": {"closed", given, "closed"},
		"ended open": {"ended", "", "closed"}, "ended shut": {"ended", "", "closed"},
		"ended end": {"ended", "", "closed"}, "ended close": {"closed", given, "closed"},
		"closed open": {"closed", "", "closed"}, "closed shut": {"closed", "", "closed"},
		"closed end": {"closed", "", "closed"}, "closed close": {"closed", "", "closed"},
	}
	ways := map[gateState][]gateEvent{gateShut: {}, gateOpen: {eventOpen}, gateEnded: {eventEnd}, gateClosed: {eventClose}}
	for state, way := range ways {
		for event := range gateEvent(len(gateEvents)) {
			name := fmt.Sprint(state, " ", event)
			var did string
			g := newGate(func(at time.Time) error {
				did = past
				if at.IsZero() {
					did = program
				}
				return nil
			})
			for _, e := range way {
				g.handle(e)
			}
			did = ""
			if state != gateClosed && event == eventClose {
				c, _ := net.Pipe()
				g.given = []net.Conn{c} // without give, because give calls callBack
			}
			if left := g.handle(event); len(left) > 0 {
				did += given
			}
			if got := (want{g.state.String(), did, readsAt(g)}); got != through[name] {
				t.Errorf("%s: %+v, want %+v", name, got, through[name])
			}
		}
	}
	if len(through) != len(gateTable)*len(gateEvents) {
		t.Errorf("%d cells are tested, and the table has %d states and %d events", len(through), len(gateTable), len(gateEvents))
	}
}

// readsAt returns what a reader gets at a gate.
func readsAt(g *gate) string {
	g.program = time.Unix(1, 0) // the reader need not wait
	read := ""
	_, err := g.through(func() error { read = "socket"; return nil })
	switch err {
	case net.ErrClosed:
		return "closed"
	case os.ErrDeadlineExceeded:
		return "waits"
	}
	return read
}

// The diagram in gate.md shows gateTable: each step that changes something is an arrow.
func TestGateDiagramShowsTheTable(t *testing.T) {
	page, err := os.ReadFile("gate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```mermaid\nstateDiagram-v2\n")
	diagram, _, _ := strings.Cut(rest, "```")
	arrows := []string{"[*] --> " + gateState(0).String()}
	for state, events := range gateTable {
		for event, step := range events {
			if from := gateState(state); step != (gateStep{next: from}) {
				arrows = append(arrows, fmt.Sprintf("%v --> %v: %v / %v", from, step.next, gateEvent(event), step.do))
			}
		}
	}
	var drawn []string
	for line := range strings.Lines(diagram) {
		drawn = append(drawn, strings.TrimSpace(line))
	}
	if !slices.Equal(drawn, arrows) {
		t.Errorf("the page has\n%s\nand the table\n%s", strings.Join(drawn, "\n"), strings.Join(arrows, "\n"))
	}
}
