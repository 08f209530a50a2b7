//go:build unix

package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// These characters, and the keys of leadsTo, are the meanings of events in the table cells.
const (
	isImpossible = '!' // the attempt is taken back, with an error that names the cell
	isIgnored    = '.'
	isDenied     = '-'
	isAllowed    = '+'
	isHandled    = 's' // the stage stays
)

// leadsTo has the stage to which an event leads. The character ">" stands for the next stage.
var leadsTo = map[rune]stage{
	'b': atDismissing, 'c': atChecking, 'k': atKilling, 'r': atReacquiring, 'e': atEnded,
	'x': atEnded, // the event is impossible in an attempt that was already taken back
}

// cells has the meaning of each event in each stage: a row for each stage, and a character for each event, from failed to late.
var cells = map[stage]string{
	atNaming:      "!!!!!!b.+-.>!!!",
	atSaving:      "!!!!!!b.+-.>!!b",
	atChoosing:    "b!!!!!b.+-.>!!b",
	atStarting:    "bb.bb!b.+-.s>cb",
	atGreeted:     "bbbbb!b.+-.>!bb",
	atChecking:    "bbbbb!b.+-.>>bb",
	atSmoking:     "bbbbb!b.+-.>!b!",
	atBaking:      "bbbbbbb.++>>!b!",
	atSoaking:     "bbbbbbb.+->>!b>",
	atAnnouncing:  "bbbbbbb.+-.>!b!",
	atReleasing:   "bbbbbbb.+-.>!b!",
	atMarshalling: "bbbbbbb.+-.>!bb",
	atCommitting:  "bbbbb.-s--.ee.>",
	atUnconfirmed: "!bbbb.-s--.!e.>",
	atOverdue:     "!bbbb.-s--.!e.b",
	atDismissing:  "xxssrk.s+-.rx.k",
	atKilling:     "xxssr..s+-.xx.r",
	atReacquiring: "ex.....s+-.ex.x",
	atEnded:       "xxxxxx-x--xxxxx",
}

// attemptAt returns an attempt in a stage. Its candidate lives and sends nothing.
func attemptAt(t *testing.T, s stage) *attempt {
	t.Helper()
	u, err := NewUnsupported(Options{Timeout: time.Minute, AllowPlain: true})
	if err != nil {
		t.Fatal(err)
	}
	a := newAttempt(t.Context(), &u.parts, modeUpgrade)
	c := saying(t)
	a.stage, a.child, a.received = s, c.child, c.received
	a.child.passing, a.cand.link = &passing{}, a.child.link
	a.values = a.estate.marshal(nil)
	<-a.values.done
	if s == atReacquiring {
		a.work = newWork("reacquire", func() {}, nil, func() error { return nil })
	}
	if s >= atDismissing {
		a.dismissal = &dismissal{attempt: a, cause: errors.New("it was taken back before"), failedAt: atBaking}
	}
	return a
}

// happens makes an event happen to an attempt, so that the wait of the attempt ends.
func (a *attempt) happens(t *testing.T, e attEvent) {
	t.Helper()
	n := news{event: e, err: fmt.Errorf("the reason is %v", e)}
	if e == evAnswered {
		kind, body := wire.KindPrepared, any(wire.PreparedBody{})
		if a.stage == atStarting {
			kind, body = wire.KindHello, wire.HelloBody{Min: wire.ProtocolMin, Max: wire.ProtocolMax, PID: a.child.PID}
		}
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		n.frame = wire.Frame{Kind: kind, Body: b}
	}
	if e == evAborted {
		a.abort(errors.New("by hand"))
	}
	if e == evBroken || e == evClosed {
		close(a.child.Exited) // the attempt need not wait for the reason
		a.child.link.Close()
	}
	if attTable[a.stage][e].do == doStop {
		a.child.Child = sleeper(t, a)
		defer func() { <-a.child.Exited }() // wait until the signal has ended the process
	}
	a.step(n)
}

// sleeper starts a process that SIGTERM ends.
func sleeper(t *testing.T, a *attempt) *process.Child {
	t.Helper()
	p, err := process.Preflight("/bin/sleep", []string{"60"}, process.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := startChild(a.estate, a.origin, a.opts, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Kill(); c.close() })
	return c.Child
}

// Every event has a meaning in every stage: an action and the next stage. An event that cannot happen takes the attempt back,
// and the error names the stage and the event.
func TestEveryStageAnswersEveryEvent(t *testing.T) {
	for s := range numStages {
		if len(cells[s]) != int(numEvents) {
			t.Fatalf("%v has %d cells", s, len(cells[s]))
		}
		for e := range numEvents {
			want := rune(cells[s][e])
			t.Run(fmt.Sprint(s, " ", e), func(t *testing.T) {
				t.Parallel()
				a := attemptAt(t, s)
				if ignored := !a.heeds(e); ignored != (want == isIgnored || want == isDenied) {
					t.Errorf("ignored %v", ignored)
				}
				a.happens(t, e)
				next, leads := leadsTo[want]
				switch {
				case want == isImpossible:
					next = atDismissing
				case want == '>':
					next = s + 1
				case !leads:
					next = s
				}
				if a.stage != next {
					t.Errorf("leads to %v, want %v", a.stage, next)
				}
				if s >= atDismissing || next != atDismissing {
					return
				}
				if named := errors.As(a.dismissal.cause, new(*stageError)); named != (want == isImpossible) || a.dismissal.failedAt != s {
					t.Errorf("failed in %v: %v", a.dismissal.failedAt, a.dismissal.cause)
				}
			})
		}
	}
}

// The table decides about each request of a caller: an abort, another upgrade, a weight.
func TestEveryStageAnswersEveryCaller(t *testing.T) {
	for s := range numStages {
		a := attemptAt(t, s)
		if got, want := a.remember(), cells[s][evAsked] == isAllowed; got != want || a.again != want {
			t.Errorf("%v: another upgrade is remembered: %v, want %v", s, got, want)
		}
		if err, want := a.shares.setWeight(0), cells[s][evWeighed] == isAllowed; errors.Is(err, ErrClosed) == want {
			t.Errorf("%v: a weight is allowed %v: %v", s, want, err)
		}
		if got, want := a.tryAbort(errors.New("by hand"), true), cells[s][evAborted] != isDenied; got != want || !a.isStopping() {
			t.Errorf("%v: an abort is allowed: %v, want %v", s, got, want)
		}
	}
}

// If an abort comes together with another event, the abort counts: the next stage does not begin.
func TestNoStageBeginsAfterAnAbort(t *testing.T) {
	for s := range numStages {
		if cells[s][evAborted] != 'b' {
			continue
		}
		a := attemptAt(t, s)
		a.abort(errors.New("by hand"))
		if a.step(news{event: evFinished}); a.stage == s { // the stage waits once more
			continue
		}
		if a.stage != atDismissing || !errors.Is(a.dismissal.cause, ErrAborted) {
			t.Errorf("%v leads to %v", s, a.stage)
		}
	}
}

// An aborted process that tries to start the service again does not accept, and does not acquire its resources again, wherever
// its attempt fails. Any other process accepts again.
func TestRevivalThatFailsOpensNothing(t *testing.T) {
	for s := atNaming; s < atDismissing; s++ {
		for _, background := range []bool{false, true} {
			for _, m := range []mode{modeUpgrade, modeRevive} {
				t.Run(fmt.Sprint(s, " ", m, " ", background), func(t *testing.T) {
					t.Parallel()
					a, revives := attemptAt(t, s), m == modeRevive
					acquired := false
					a.estate.resources.add("lock", Resource{Acquire: func(context.Context) error { acquired = true; return nil }, Background: background})
					a.mode = m
					if accepts := a.failsAndAccepts(t); accepts == revives {
						t.Errorf("accepts again: %v", accepts)
					}
					if acquired != (!revives && s >= atReleasing) {
						t.Errorf("has acquired the resource again: %v", acquired)
					}
				})
			}
		}
	}
}

// failsAndAccepts takes the attempt back, with a candidate that has ended, and reports whether this process then accepts.
func (a *attempt) failsAndAccepts(t *testing.T) bool {
	t.Helper()
	ln, err := a.estate.listeners.Listen("tcp", "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted := make(chan error, 1)
	go func() { // ends when ln is closed
		c, err := ln.Accept()
		if err == nil {
			c.Close()
		}
		accepted <- err
	}()
	close(a.child.Exited)
	if a.stage == atCommitting {
		a.step(news{event: evLate}) // this process accepts, unless a resource is needed to serve
	}
	d := &dismissal{attempt: a, cause: errors.New("the reason")}
	a.dismissal = d
	a.move(atDismissing)
	d.dismiss()
	a.move(atReacquiring)
	if w := d.reacquire(); w.work != nil {
		<-w.work.done
	}
	d.reopen()
	if a.mode == modeRevive {
		time.AfterFunc(50*time.Millisecond, func() { ln.Close() }) // if a connection is accepted, this happens before
	}
	return <-accepted == nil
}

// diagram draws the table as a diagram.
func diagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    [*] --> naming\n")
	for s := range atEnded {
		arrows := map[string][]string{} // the labels of the arrows to a stage, in the order of the events
		var order []string
		for e := range numEvents {
			c := attTable[s][e]
			label := e.String()
			switch c.do {
			case doImpossible, doIgnore, doDeny, doAllow:
				continue
			case doProceed, doTakeBack:
			default:
				label += " / " + c.do.String()
			}
			to := c.next
			if to == stay {
				to = s
			}
			if arrows[to.String()] == nil {
				order = append(order, to.String())
			}
			arrows[to.String()] = append(arrows[to.String()], label)
		}
		slices.Sort(order)
		for _, to := range order {
			fmt.Fprintf(&b, "    %v --> %s: %s\n", s, to, strings.Join(arrows[to], ", "))
		}
	}
	b.WriteString("    ended --> [*]\n")
	return b.String()
}

// callers returns the part of the table about the requests of callers.
func callers() string {
	var b strings.Builder
	for _, e := range []attEvent{evAborted, evAsked, evWeighed} {
		var denied []string
		for s := range atEnded {
			if attTable[s][e].do == doDeny {
				denied = append(denied, s.String())
			}
		}
		fmt.Fprintf(&b, "| %v | %s |\n", e, strings.Join(denied, ", "))
	}
	return b.String()
}

// The page about the stages shows the present table, and explains each stage.
func TestStagesAreDrawn(t *testing.T) {
	page, err := os.ReadFile("states-attempt.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{diagram(), callers()} {
		if !strings.Contains(string(page), part) {
			t.Errorf("states-attempt.md does not have\n%s", part)
		}
	}
	for s := range numStages {
		if !strings.Contains(string(page), fmt.Sprintf("\n| %v | %s |", s, phases[s])) {
			t.Errorf("states-attempt.md does not explain %v in phase %s", s, phases[s])
		}
	}
}
