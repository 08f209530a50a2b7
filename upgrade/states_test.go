//go:build unix

package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// genGrid has the state to which each event leads. The generation has passed its checks, and has neither a supervisor nor
// resources. Its old process reads nothing and sends nothing. A dot means that the state does not change, an exclamation mark
// that the event cannot come.
const genGrid = `
               starting   candidate  committing alone      orphan     acquiring  serving    handedOver aborted    returning  reviving   leaving    stopping   ended
stop           stopping   aborted    aborted    stopping   leaving    stopping   stopping   .          .          leaving    .          .          .          .
hangup         .          .          .          .          .          .          .          .          .          .          .          .          .          .
request        .          .          .          .          .          .          .          .          .          .          .          .          .          .
watchdog       .          .          .          .          .          .          .          .          .          .          .          .          .          .
checksPassed   serving    .          !          serving    .          !          !          .          .          .          .          .          .          .
checksFailed   serving    aborted    !          serving    leaving    !          !          .          .          .          .          .          .          .
served         stopping   aborted    aborted    stopping   leaving    stopping   stopping   .          returning  .          .          .          .          .
message        !          .          .          .          .          .          .          .          .          .          .          .          .          .
commit         !          serving    .          .          .          .          .          .          .          .          .          .          .          .
abort          !          aborted    aborted    aborted    aborted    aborted    .          .          .          .          .          .          .          .
abortStopping  !          leaving    leaving    leaving    leaving    leaving    .          .          leaving    leaving    .          .          .          .
released       .          .          .          .          .          .          .          .          .          leaving    .          .          .          .
named          !          !          !          !          !          !          .          .          .          .          .          .          .          .
conn           .          aborted    aborted    .          .          .          .          .          .          .          .          .          .          .
oldDied        !          serving    serving    .          serving    .          .          .          reviving   reviving   .          .          .          .
linkBroken     !          aborted    .          .          leaving    .          .          .          leaving    leaving    .          .          .          .
taken          !          !          serving    serving    !          !          !          .          .          .          .          .          .          .
takeFailed     !          !          aborted    serving    !          !          !          .          .          .          .          .          .          .
acquired       !          serving    !          !          !          serving    !          .          .          .          .          .          .          .
acquireFailed  !          stopping   !          !          !          stopping   !          .          .          .          .          .          .          .
written        !          !          !          !          !          !          .          .          .          .          .          .          .          .
told           !          !          !          !          !          !          .          .          .          .          .          .          .          .
snapshot       !          !          !          !          !          !          !          .          .          .          .          .          .          .
attemptFailed  !          !          !          !          !          !          .          !          !          !          leaving    !          .          !
attemptDone    !          !          !          !          !          !          handedOver !          !          !          handedOver !          handedOver !
confirmed      .          .          .          .          serving    .          .          .          .          .          .          .          .          .
nextSocket     .          .          .          .          .          .          .          .          .          .          .          .          .          .
orphanSocket   .          .          .          .          .          .          .          .          .          .          .          .          .          .
noSupervisor   .          .          .          .          .          .          .          .          .          .          .          .          .          .
finished       !          !          !          !          !          !          !          ended      ended      !          !          ended      ended      !
failed         !          aborted    aborted    !          !          !          !          !          !          !          !          !          !          !
reported       !          aborted    aborted    !          !          !          !          !          !          !          !          !          !          !
cut            !          leaving    leaving    !          !          !          !          !          !          !          !          !          !          !
gaveUp         !          leaving    !          !          leaving    !          !          !          leaving    leaving    !          !          !          !
orphaned       !          orphan     !          !          !          !          !          !          !          !          !          !          !          !
promoted       !          serving    !          !          serving    !          !          !          !          !          !          !          !          !
needs          acquiring  .          !          acquiring  !          !          !          !          !          !          !          !          !          !
serves         serving    serving    serving    serving    !          serving    !          !          !          !          !          !          !          !
revive         !          !          !          !          !          !          !          !          reviving   reviving   !          !          !          !
`

// inState returns a generation in a state, and a function that releases what the generation uses.
func inState(t *testing.T, s genState, log *bytes.Buffer) (*generation, func()) {
	t.Helper()
	u, err := NewUnsupported(Options{Executable: "/nonexistent", Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	u.origin.old, u.origin.link = oldMidair, wire.NewLink(&wiretest.Transport{})
	u.origin.elder = &elder{link: u.origin.link}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	u.history.previous.build = &process.Build{Exe: null, Args: []string{"none"}} // cannot be started: revive must not start this test
	g := newGeneration(&u.parts)
	g.state, g.result, g.endServe = s, checksPassed, func(error) {}
	return g, func() {
		g.acquiring.stop()
		endSending(g)
		if g.attempt != nil {
			<-g.attemptEnded
		}
		g.memory.end()
		u.history.elders.release()
		u.history.previous.release()
		u.origin.link.Close()
		logqueue.Flush(u.log)
	}
}

// endSending waits for the goroutines beside the loop.
func endSending(g *generation) {
	for len(g.tellings.all) > 0 {
		select {
		case t := <-g.tellings.written:
			g.fire(onWritten, detail{telling: t})
		case t := <-g.tellings.ended:
			g.hasTold(t)
		}
	}
	g.beside.Wait()
}

// fires fires an event, with all values that the event may need.
func fires(g *generation, e genEvent) {
	other := wire.NewLink(&wiretest.Transport{})
	defer other.Close()
	a := newAttempt(context.Background(), g.parts, modeUpgrade)
	a.child = &child{Child: new(process.Child), link: other}
	g.fire(e, detail{
		err: errors.New("a reason"), phase: PhaseCheck, frame: wire.Frame{Kind: wire.KindTakes}, attempt: a, telling: new(telling),
		request: request{op: opCommit, reply: make(chan error, 1)},
	})
}

// Each event in each state has the effect that the grid says. An event that cannot come changes nothing and is logged.
func TestEveryEventInEveryState(t *testing.T) {
	var grid strings.Builder
	fmt.Fprintf(&grid, "%-14s", "")
	for s := genStarting; s < genStates; s++ {
		fmt.Fprintf(&grid, " %-10s", s)
	}
	for e := range genEvents {
		fmt.Fprintf(&grid, "\n%-14s", e)
		for s := genStarting; s < genStates; s++ {
			var log bytes.Buffer
			g, end := inState(t, s, &log)
			fires(g, e)
			now := g.state
			end()
			impossible := strings.Contains(log.String(), "cannot come in this state")
			switch {
			case impossible:
				fmt.Fprintf(&grid, " %-10s", "!")
				if now != s {
					t.Errorf("%v in %v: now %v", e, s, now)
				}
			case now == s:
				fmt.Fprintf(&grid, " %-10s", ".")
			default:
				fmt.Fprintf(&grid, " %-10s", now)
			}
		}
	}
	got, want := strings.Split(grid.String(), "\n"), strings.Split(strings.Trim(genGrid, "\n"), "\n")
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got) || i >= len(want):
			t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), grid.String())
		case strings.TrimRight(got[i], " ") != want[i]:
			t.Errorf("now\n%s\nwant\n%s", got[i], want[i])
		}
	}
}

// These decisions depend on the supervisor, and on the process that has taken this process back.
func TestDeathOfTheOldProcessUnderASupervisor(t *testing.T) {
	for _, c := range []struct {
		state genState
		event genEvent
		want  genState
	}{
		{genCandidate, onOldDied, genOrphan},
		{genCommitting, onOldDied, genServing},
		{genOrphan, onOldDied, genOrphan},
		{genOrphan, onNoSupervisor, genOrphan}, // wait for the process of the committed build
		{genAborted, onOldDied, genLeaving},
		{genReturning, onOldDied, genLeaving},
	} {
		var log bytes.Buffer
		g, end := inState(t, c.state, &log)
		g.supervised = true
		fires(g, c.event)
		end()
		if g.state != c.want {
			t.Errorf("%v in %v: now %v, want %v", c.event, c.state, g.state, c.want)
		}
	}
	var log bytes.Buffer
	g, end := inState(t, genOrphan, &log)
	defer end()
	fires(g, onAbort)
	fires(g, onServed)
	fires(g, onOldDied) // this process must start no process of its own in place of the committed build
	if g.state != genLeaving {
		t.Errorf("a dismissed orphan: now %v", g.state)
	}
}

// states-generation.md shows the present table.
func TestDiagramOfTheGeneration(t *testing.T) {
	text, err := os.ReadFile("states-generation.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := genDiagram(); !strings.Contains(string(text), want) {
		t.Errorf("states-generation.md should contain\n%s", want)
	}
}

// genDiagram draws the table: an arrow for each pair of states, with the events that lead from the first state to the second.
func genDiagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    [*] --> starting: first process\n    [*] --> candidate: started by an old process\n")
	for from := genStarting; from < genStates; from++ {
		for to := genStarting; to < genStates; to++ {
			var events []string
			for e := range genEvents {
				if c := genTable[from].cell(e); c != nil && c.next == to {
					events = append(events, e.String())
				}
			}
			if len(events) > 0 {
				fmt.Fprintf(&b, "    %v --> %v: %s\n", from, to, strings.Join(events, ", "))
			}
		}
	}
	b.WriteString("    ended --> [*]\n")
	return b.String()
}
