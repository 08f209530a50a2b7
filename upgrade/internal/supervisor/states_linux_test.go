package supervisor

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// stage is a supervisor with a process in some state, for which an event happens.
type stage struct {
	*supervisor
	p       *proc
	channel *os.File // the process's end of the channel
	cmd     *exec.Cmd
	log     *bytes.Buffer
	rival   *proc // the main generation, if the process is not the main generation
	begun   time.Time
}

// newStage starts a process and sets its state. If the state is one of a main generation, the process is the main generation.
func newStage(t *testing.T, st procState) *stage {
	t.Helper()
	e := &stage{supervisor: idle(t), cmd: exec.Command("/bin/sleep", "60"), log: new(bytes.Buffer), begun: time.Now()}
	e.supervisor.log = slog.New(slog.NewTextHandler(e.log, nil))
	e.opts.Watchdog, e.phase = time.Minute, running
	e.recovery.builds.last = &process.Build{Version: "v8"}
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = e.cmd.Process.Kill(), e.cmd.Wait() })
	e.p, e.channel = e.generationOf(t, e.cmd.Process.Pid)
	e.rival, _ = e.self(t)
	e.leads(e.rival)
	e.p.number, e.p.state = 6, st
	switch st {
	case starting, serving, hung, killed:
		e.rival.state, e.main = draining, e.p
	case candidate, committed, orphan, confirmed, dismissed, terminated:
		e.p.parent = e.rival
	}
	return e
}

// endedBy waits for the end of the process, and returns the signal that has ended it. If livesOn is true, the process should
// still live, so endedBy itself sends SIGUSR1.
func (e *stage) endedBy(livesOn bool) syscall.Signal {
	if livesOn {
		_ = e.cmd.Process.Signal(syscall.SIGUSR1)
	}
	_ = e.cmd.Wait()
	return e.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

// effects has, for each action, what it does to the process, the supervisor and the log. The process is sent no other signals
// than those in endings.
var effects = map[action]func(e *stage) bool{
	impossible: func(e *stage) bool { return strings.Contains(e.log.String(), "this cannot happen") },
	nothing: func(e *stage) bool {
		return e.log.Len() == 0 && e.p.endBy.IsZero() && e.p.aliveBy.IsZero() && e.p.led.IsZero()
	},
	lead: func(e *stage) bool {
		return e.main == e.p && e.p.number == 7 && !e.p.led.IsZero() && !e.p.aliveBy.IsZero()
	},
	reaffirm: func(e *stage) bool { return e.main == e.p && e.p.number == 7 && e.p.led.IsZero() },
	refuse: func(e *stage) bool {
		return strings.Contains(e.log.String(), "the later one is told to end") && e.main == e.rival
	},
	disbelieve: func(e *stage) bool {
		return strings.Contains(e.log.String(), "nobody has committed claims") && e.main == e.rival
	},
	rearm:      func(e *stage) bool { return !e.p.aliveBy.Before(e.begun.Add(e.opts.Watchdog)) },
	abort:      func(e *stage) bool { return !e.p.aliveBy.Before(e.begun.Add(abortLimit)) },
	killSilent: func(e *stage) bool { return !e.p.aliveBy.Before(e.begun.Add(abortLimit)) },
	disarm:     func(e *stage) bool { return e.p.aliveBy.IsZero() },
	shelter: func(e *stage) bool {
		return e.p.version == "v9" && strings.Contains(e.log.String(), "before the commit")
	},
	dismiss: func(e *stage) bool {
		return !e.p.endBy.Before(e.begun.Add(e.opts.AbortGrace)) && e.p.met == e.rival.number
	},
	terminate:   func(e *stage) bool { return !e.p.endBy.Before(e.begun.Add(e.opts.AbortGrace)) && e.p.intent == asked },
	killOverdue: func(e *stage) bool { return !e.p.endBy.Before(e.begun.Add(time.Second)) },
	limitWait:   func(e *stage) bool { return !e.p.endBy.Before(e.begun.Add(e.opts.Timeout)) },
	limitDrain:  func(e *stage) bool { return !e.p.endBy.Before(e.begun.Add(e.opts.AbortGrace)) },
	settle:      func(e *stage) bool { return !e.recovery.restartAt.IsZero() },
	mend: func(e *stage) bool {
		return e.main == nil && e.recovery.crashed == e.p && !e.recovery.restartAt.IsZero()
	},
}

// endings are the signals that the actions send to the process.
var endings = map[action]syscall.Signal{
	refuse: unix.SIGTERM, abort: unix.SIGABRT, killSilent: unix.SIGKILL, terminate: unix.SIGTERM, killOverdue: unix.SIGKILL, mend: unix.SIGKILL,
}

// Every event in every state does what the table says, and nothing else. This includes impossible events: a process can cause
// them by sending any message at any time.
func TestEveryEventInEveryState(t *testing.T) {
	seen := map[action]bool{}
	for st := range states {
		for ev := range events {
			e := newStage(t, st)
			want := table[st][ev]
			if want.do == impossible {
				want.next = st
			}
			if want.do == settle { // no other process serves, and the last main generation has crashed
				e.main, e.recovery.crashed = nil, &proc{lostAt: time.Now()}
				e.rival.state = draining
				e.recovery.outage.begin(time.Now())
			}
			if ev == onEnded {
				delete(e.procs.all, e.p.key) // as died has done
			}
			m := &sdnotify.Message{Lines: []string{sdnotify.WordGeneration + "7", sdnotify.WordVersion + "v9"}}
			main := e.main
			e.on(e.p, ev, time.Now(), m)
			if e.p.state != want.next {
				t.Errorf("%v, %v: %v, want %v", st, ev, e.p.state, want.next)
			}
			if does := effects[want.do]; does == nil || !does(e) {
				t.Errorf("%v, %v: not %v: %+v; the log:\n%s", st, ev, want.do, e.p, e.log)
			}
			if e.main != main && want.do != lead && want.do != mend {
				t.Errorf("%v, %v: another process leads", st, ev)
			}
			signal, ends := endings[want.do]
			if got := e.endedBy(!ends); ends && got != signal || !ends && got != unix.SIGUSR1 {
				t.Errorf("%v, %v: the process was ended by %v", st, ev, got)
			}
			e.procs.all[e.p.key] = e.p // for the end of the test
			seen[want.do] = true
		}
	}
	for do := range actionNumber {
		if !seen[do] {
			t.Errorf("no cell says %v", do)
		}
	}
}

// The table follows the rules of the supervisor: a process can end in any state, and the end is final; a draining process never
// becomes the service again; and an orphan becomes the service only after it was confirmed.
func TestTableKeepsTheLaws(t *testing.T) {
	final := []procState{draining, dismissed, terminated, ended}
	reached := map[procState]bool{starting: true, candidate: true}
	for st := range states {
		for ev := range events {
			do, next := st.step(ev)
			reached[next] = true
			if (next == ended) != (ev == onEnded || st == ended) {
				t.Errorf("%v, %v: %v", st, ev, next)
			}
			if slices.Contains(final, st) && !slices.Contains(final, next) {
				t.Errorf("%v, %v: %v, and it was over", st, ev, next)
			}
			if next == serving && st == orphan || do == lead && next != serving {
				t.Errorf("%v, %v: %v, %v", st, ev, do, next)
			}
			if next == confirmed && st != confirmed && (st != orphan || ev != onConfirmed) {
				t.Errorf("%v, %v: %v", st, ev, next)
			}
			if do == impossible && next != st {
				t.Errorf("%v, %v: impossible, and %v", st, ev, next)
			}
		}
	}
	for st := range states {
		if !reached[st] {
			t.Errorf("%v is never reached", st)
		}
	}
}

// A state, event or action is printed by its name; a number without a name is printed as a number.
func TestStatesHaveNames(t *testing.T) {
	names := map[string]bool{}
	for st := range states {
		names["state "+st.String()] = true
	}
	for ev := range events {
		names["event "+ev.String()] = true
	}
	for do := range actionNumber {
		names["action "+do.String()] = true
	}
	if want := int(states) + int(events) + int(actionNumber); len(names) != want || names["state "] || names["event "] || names["action "] {
		t.Errorf("%d names, want %d", len(names), want)
	}
	if got := fmt.Sprint(states, events, action(-1)); got != "13 15 -1" {
		t.Errorf("%q", got)
	}
}

// page returns the arrows in the picture of states.md, without their events, and the cells of its table.
func page(t *testing.T) (arrows map[string]string, cells map[string]string) {
	t.Helper()
	text, err := os.ReadFile("states.md")
	if err != nil {
		t.Fatal(err)
	}
	arrows, cells = map[string]string{}, map[string]string{}
	var columns []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if from, rest, ok := strings.Cut(line, " --> "); ok && from != "[*]" {
			to, events, _ := strings.Cut(rest, " : ")
			arrows[from+" --> "+to] = events
		}
		row, ok := strings.CutPrefix(line, "| ")
		if !ok || strings.HasPrefix(row, "---") {
			continue
		}
		fields := strings.Split(strings.TrimSuffix(row, " |"), " | ")
		if columns == nil {
			columns = fields
			continue
		}
		for i, f := range fields[1:] {
			cells[columns[i+1]+", "+fields[0]] = f
		}
	}
	return arrows, cells
}

// The picture and the table of states.md agree with the table in the code.
func TestPageShowsTheTable(t *testing.T) {
	arrows, cells := map[string][]string{}, map[string]string{}
	for st := range states {
		for ev := range events {
			do, next := st.step(ev)
			if next != st && next != ended { // the picture has no arrows to the state ended
				arrow := st.String() + " --> " + next.String()
				arrows[arrow] = append(arrows[arrow], ev.String())
			}
			text := do.String()
			switch do {
			case impossible:
				text = "✕"
			case nothing:
				text = "·"
			}
			cells[st.String()+", "+ev.String()] = text
		}
	}
	drawn, written := page(t)
	want := map[string]string{}
	for a, all := range arrows {
		want[a] = strings.Join(all, ", ")
	}
	mustBeSame(t, drawn, want)
	mustBeSame(t, written, cells)
}

func mustBeSame(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("states.md has %q for %s, the code %q", got[k], k, want[k])
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("states.md has %s, the code has not", k)
		}
	}
}
