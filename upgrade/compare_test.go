//go:build linux

package upgrade_test

import (
	"flag"
	"fmt"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

var (
	pairs = flag.Int("midair.pairs", 30, "how many upgrades of each side TestSideBySideWithTableflip times")
	loops = flag.Int("midair.busy", 0, "how many processes that never wait run beside TestSideBySideWithTableflip")
)

// The goals, and the limits above which the test fails. Machines differ too much for a lower limit: on one machine the first
// answer took 1.3 times as long as with tableflip, on another machine 2.9 times. So a limit only finds a wait that was built
// in by mistake.
const (
	firstGoal, firstLimit   = 1.2, 5.0
	aroundGoal, aroundLimit = 1.2, 3.0
	// enoughPairs is how many upgrades a median must come from before the test compares it with a limit.
	enoughPairs = 20
	// lossUpgrades is the number of upgrades of each side during which losses are counted.
	lossUpgrades = 20
)

// The parts of a timed upgrade. The load runs from the warm-up to the end, and only against the side that is upgraded.
const (
	warmUp     = 100 * time.Millisecond
	steadyTime = 700 * time.Millisecond
	before     = 200 * time.Millisecond
	after      = 800 * time.Millisecond
)

// forgotten is how long the test waits for the effect of a signal before it sends the signal again.
const forgotten = 500 * time.Millisecond

// The paced load leaves most of the machine idle, so that only the upgrade delays a request. Each kind of client has its own
// load: in a common load the two kinds would send in turns, in bursts.
var (
	pacedKept  = testutil.LoadOptions{KeepAlive: 8, Rate: 400}
	pacedFresh = testutil.LoadOptions{New: 16, Rate: 800}
)

// The library's service, without a soak, is compared with the example program of tableflip's documentation. Compared are the
// time until the new process answers, the latency of the requests around an upgrade, and the lost requests. Both services run
// side by side and are upgraded in turns, so that other load of the machine affects both.
func TestSideBySideWithTableflip(t *testing.T) {
	timed, counted := *pairs, lossUpgrades
	if testing.Short() {
		timed, counted = min(timed, 3), 3
	}
	said := ""
	t.Cleanup(func() { // logs the result after the output of the services, because a long output is cut at its beginning
		if t.Failed() {
			t.Log(said)
		}
	})
	lib := newSide(t, "midair", func(s *plan.Settings) { s.Soak, s.NoNotes = -1, true })
	bare := newSide(t, "tableflip", func(s *plan.Settings) { s.Plain = true })
	idle := keepBusy(t, *loops)
	for range timed {
		lib.timeUpgrade()
		bare.timeUpgrade()
	}
	idle()
	lib.countLosses(counted)
	bare.countLosses(counted)
	said = fmt.Sprintf("%d timed upgrades of each, medians, at %.0f requests/s, beside %d busy loops; losses over %d upgrades of each, closed loop\n%s%v\n%v",
		timed, pacedKept.Rate+pacedFresh.Rate, *loops, counted, table(lib, bare), lib.kept.Offenders, lib.fresh.Offenders)
	t.Log(said)
	lib.kept.MustBeClean(t)
	lib.fresh.MustBeClean(t)
	if timed < enoughPairs || raceDetector() {
		return
	}
	if r := ratio(lib.first, bare.first); r > firstLimit {
		t.Errorf("the first answer of the new process takes %.2f times as long as tableflip's", r)
	}
	r, other := ratio(lib.around, lib.steady), ratio(bare.around, bare.steady)
	if r > max(aroundLimit, 2*other) { // beside other work, both are slow around an upgrade
		t.Errorf("the p99 around an upgrade is %.2f times that of the steady state, with tableflip %.2f times", r, other)
	}
}

// keepBusy starts n processes that use all processor time they get. The returned function ends the processes.
func keepBusy(t *testing.T, n int) (end func()) {
	t.Helper()
	var ends []func()
	for range n {
		cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, sync.OnceFunc(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // reports the signal
		}))
		t.Cleanup(ends[len(ends)-1])
	}
	return func() {
		for _, fn := range ends {
			fn()
		}
	}
}

// raceDetector reports whether this is a build with the race detector. The detector slows the library more than the example,
// because the library does more in Go.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// side is one of the compared services, and what was measured of it.
type side struct {
	*testclient.Service
	t           *testing.T
	name        string
	first       []time.Duration // from the signal to the first answer of the new process
	started     []time.Duration // from the signal to the start of the new process
	serving     []time.Duration // from the signal to the end of the commit in the new process
	around      []time.Duration // p99 of the second around an upgrade
	steady      []time.Duration // p99 just before that second
	kept, fresh testutil.Accounting
}

func newSide(t *testing.T, name string, change func(*plan.Settings)) *side {
	t.Helper()
	return &side{Service: testclient.Start(t, change), t: t, name: name}
}

// timeUpgrade upgrades once under the paced load. During the measurement it sends the service no other requests.
func (s *side) timeUpgrade() {
	s.t.Helper()
	kept, fresh := s.Load(pacedKept), s.Load(pacedFresh)
	pace(warmUp)
	from := time.Now()
	pace(steadyTime)
	to := time.Now()
	pace(before)
	old, hangup := s.MainPID(), time.Now()
	s.SignalMain(syscall.SIGHUP)
	pace(after)
	pid := s.replaced(old)
	s.goesOn(kept, fresh)
	all := answers(kept.Stop(), fresh.Stop())
	s.steady = append(s.steady, p99(all, from, to))
	s.around = append(s.around, p99(all, hangup.Add(-before), hangup.Add(after)))
	s.first = append(s.first, s.firstAnswer(all, pid).Sub(hangup))
	s.started = append(s.started, s.logged("upgrade: started a new process", pid).Sub(hangup))
	s.serving = append(s.serving, s.logged("upgrade: serving", pid).Sub(hangup))
	s.WaitFamily(s.t, 1, 30*time.Second)
}

// answers are the requests that were answered.
func answers(reports ...*testutil.Report) (all []testutil.Record) {
	for _, rep := range reports {
		for r := range rep.Records() {
			if r.Outcome == testutil.OK {
				all = append(all, r)
			}
		}
	}
	return all
}

// p99 returns the latency that 99 % of the answers did not exceed, for requests that began in the window. It returns 0 if
// there were none.
func p99(all []testutil.Record, from, to time.Time) time.Duration {
	var took []time.Duration
	for _, r := range all {
		if !r.Start.Before(from) && r.Start.Before(to) {
			took = append(took, r.End.Sub(r.Start))
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[(len(took)*99+99)/100-1]
}

// pace is a pause between two parts of a measurement. The test does not depend on any event during the pause.
func pace(d time.Duration) { <-time.After(d) }

// replaced waits until another process than old is the service, and returns the pid of that process. The example refuses an
// upgrade until it has noticed the end of its own parent, and forgets the signal. So replaced sends the signal to the example
// again.
func (s *side) replaced(old int) (pid int) {
	s.t.Helper()
	again := time.Now().Add(forgotten)
	testutil.Until(s.t, patience, "another process of "+s.name+" serves", func() bool {
		if s.Set.Plain && time.Now().After(again) {
			_ = syscall.Kill(old, syscall.SIGHUP) // fails if it has just ended
			again = again.Add(forgotten)
		}
		pid = s.MainPID()
		return pid != 0 && pid != old
	})
	return pid
}

// goesOn waits until more requests of each load have ended than the load has clients. So some of these requests were sent
// after the call of goesOn.
func (s *side) goesOn(loads ...*testutil.Load) {
	s.t.Helper()
	for _, l := range loads {
		ended := l.Total()
		testutil.Until(s.t, patience, "requests go on", func() bool { return l.Total() > ended+40 })
	}
}

func (s *side) firstAnswer(all []testutil.Record, pid int) (first time.Time) {
	s.t.Helper()
	for _, r := range all {
		if r.PID == pid && (first.IsZero() || r.End.Before(first)) {
			first = r.End
		}
	}
	if first.IsZero() {
		s.t.Fatalf("%s: the new process %d never answered", s.name, pid)
	}
	return first
}

// logged returns the time at which the service logged a message about a process. For tableflip, which logs nothing, it returns
// the zero time.
func (s *side) logged(message string, pid int) time.Time {
	s.t.Helper()
	if s.Set.Plain {
		return time.Time{}
	}
	for line := range strings.Lines(s.Output()) {
		if strings.Contains(line, message) && strings.Contains(line, fmt.Sprintf("=%d", pid)) {
			at, err := time.ParseInLocation("2006/01/02 15:04:05.000000", line[:26], time.Local)
			if err != nil {
				s.t.Fatal(err)
			}
			return at
		}
	}
	s.t.Fatalf("%s: no line %q of the process %d in the log", s.name, message, pid)
	return time.Time{}
}

// countLosses upgrades n times under a load that always has requests under way.
func (s *side) countLosses(n int) {
	s.t.Helper()
	kept, fresh := s.Load(testutil.LoadOptions{KeepAlive: 32}), s.Load(testutil.LoadOptions{New: 8})
	for range n {
		old := s.MainPID()
		s.SignalMain(syscall.SIGHUP)
		s.replaced(old)
		s.WaitFamily(s.t, 1, 30*time.Second)
		s.goesOn(kept, fresh)
	}
	s.kept, s.fresh = s.Account(kept), s.Account(fresh)
}

func lost(a testutil.Accounting) int { return len(a.Offenders) + a.Unknown }

// table returns a table of both sides, with the goals of side a.
func table(a, b *side) string {
	var out strings.Builder
	row := func(what, x, y, quotient, goal string) {
		fmt.Fprintf(&out, "%-44s %12s %12s %7s  %s\n", what, x, y, quotient, goal)
	}
	first, around := ratio(a.first, b.first), ratio(a.around, a.steady)
	row("", a.name, b.name, "ratio", "goal")
	row("signal to first answer of the new process", ms(a.first), ms(b.first), times(first), goal("ratio", first, firstGoal))
	row("  the new process has started after", ms(a.started), "", "", "")
	row("  it serves after", ms(a.serving), "", "", "")
	row("p99, steady", ms(a.steady), ms(b.steady), times(ratio(a.steady, b.steady)), "")
	row("p99, -0.2 s to +0.8 s around an upgrade", ms(a.around), ms(b.around), times(ratio(a.around, b.around)), "")
	row("p99 around / p99 steady", times(around), times(ratio(b.around, b.steady)), "", goal(a.name, around, aroundGoal))
	row("lost, 32 keep-alive clients", fmt.Sprint(lost(a.kept)), fmt.Sprint(lost(b.kept)), "", goal(a.name, float64(lost(a.kept)), 0))
	row("lost, 8 clients of new connections", fmt.Sprint(lost(a.fresh)), fmt.Sprint(lost(b.fresh)), "", goal(a.name, float64(lost(a.fresh)), 0))
	row("requests in the loss count", fmt.Sprint(a.kept.Total+a.fresh.Total), fmt.Sprint(b.kept.Total+b.fresh.Total), "", "")
	return out.String()
}

func goal(of string, got, want float64) string {
	verdict := "missed"
	if got <= want {
		verdict = "met"
	}
	return fmt.Sprintf("%s <= %g: %s", of, want, verdict)
}

func times(r float64) string { return fmt.Sprintf("%.2f x", r) }

func ms(all []time.Duration) string { return fmt.Sprintf("%.2f ms", median(all).Seconds()*1000) }

func ratio(x, y []time.Duration) float64 { return float64(median(x)) / float64(median(y)) }

// median returns the middle value, or the mean of the two middle values.
func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
