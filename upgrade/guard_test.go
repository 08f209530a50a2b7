//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// mustBeBack waits until another process than the dead ones answers, and returns how long after the moment it did.
func (r *running) mustBeBack(l *testutil.Load, dead []int) {
	r.t.Helper()
	testutil.Until(r.t, patience, "another process serves", func() bool {
		pid := r.mainPID()
		return pid != 0 && !slices.Contains(dead, pid)
	})
	answered := l.Total()
	testutil.Until(r.t, patience, "requests are answered", func() bool { return l.Total() > answered+200 })
}

// mustHaveLostOnlyThen allows the loss of what the dead had received: what they executed, what was sent on a connection
// that they had answered on before, and what was under way on a new connection when they were killed.
func (r *running) mustHaveLostOnlyThen(a testutil.Accounting, kills []time.Time, dead []int) {
	r.t.Helper()
	for _, o := range a.Except(dead...) {
		underWay := slices.ContainsFunc(kills, func(at time.Time) bool {
			return !o.Start.After(at.Add(10*time.Millisecond)) && !o.End.Before(at)
		})
		if o.PID != 0 || o.Verdict != testutil.NotExecuted || !underWay && !r.accepted(o, dead...) {
			r.t.Errorf("lost, and not by a process that was killed: %v", o)
		}
	}
	if a.Counts[testutil.Twice] > 0 || a.Unknown > 0 {
		r.t.Errorf("executed twice or out of nothing:\n%s", a)
	}
}

// timesBack is how long after each kill the first answer of another process came.
func timesBack(report *testutil.Report, kills []time.Time, dead [][]int) (back []time.Duration) {
	all := answers(report)
	for i, at := range kills {
		var first time.Time
		for _, a := range all {
			if a.End.After(at) && !slices.Contains(dead[i], a.PID) && (first.IsZero() || a.End.Before(first)) {
				first = a.End
			}
		}
		back = append(back, first.Sub(at))
	}
	slices.Sort(back)
	return back
}

// If every generation is killed at once under load, the supervisor starts the last committed build on the sockets that it
// holds: no connection is refused, and nothing is lost but what the dead had received.
func TestKillOfEveryGenerationRefusesNothing(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Supervisor, s.Guard = "always", time.Millisecond })
	r.upgrade()
	r.WaitFamily(t, 2, patience)
	l := r.load(smallLoad)
	var kills []time.Time
	var dead [][]int
	for range 20 {
		pids, at := r.killAll()
		kills, dead = append(kills, at), append(dead, pids)
		r.mustBeBack(l, slices.Concat(dead...))
	}
	status := r.ask("GET", "/status").Status
	if status.Generation != 22 || status.Last == nil || status.Last.Kind != "crash" || !strings.Contains(status.Last.Reason, "killed") {
		t.Errorf("after 20 kills of generation 2 and its successors: %+v, last %+v", status, status.Last)
	}
	report := l.Stop()
	back := timesBack(report, kills, dead)
	a := testutil.Account(t, report, r.dir+"/journal")
	t.Logf("killed 20 times: refused %d, back after %v to %v, median %v\n%s", a.Counts[testutil.Refused], back[0], back[19], back[10], a)
	if a.Counts[testutil.Refused] > 0 {
		t.Errorf("%d connections were refused", a.Counts[testutil.Refused])
	}
	r.mustHaveLostOnlyThen(a, kills, slices.Concat(dead...))
	testutil.Until(t, patience, "nobody is left to be reaped", func() bool { return zombies(t, r.PID()) == 0 })
	r.upgrade()
	r.mustStop(syscall.SIGTERM)
}

// A release that crashes after its commit, and again after its restart, is replaced by the one that was committed before,
// and says so. Nothing is refused meanwhile.
func TestCrashLoopAfterTheCommitBringsBackTheBuildBefore(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Supervisor, s.Serve = "always", "crash" })
	r.release("good")
	r.upgrade()
	l := r.load(smallLoad)
	r.release("bad")
	begun := time.Now()
	_, _ = r.tryAsk(t.Context(), "POST", "/upgrade") // its answer may die with the process
	var status upgrade.Status
	testutil.Until(t, patience, "the build before serves again", func() bool {
		a, err := r.tryAsk(t.Context(), "GET", "/status")
		status = a.Status
		return err == nil && status.State == "serving" && status.Generation == 5
	})
	took := time.Since(begun)
	r.mustRun("good")
	if status.Last == nil || status.Last.Kind != "crash-rollback" || !strings.Contains(status.Last.Reason, "exit status 3") {
		t.Errorf("the status says %+v", status.Last)
	}
	answered := l.Total()
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > answered+50 })
	a := r.account(l)
	t.Logf("the build before serves %v after the upgrade was asked for; refused %d\n%s", took, a.Counts[testutil.Refused], a)
	if a.Counts[testutil.Refused] > 0 {
		t.Error("connections were refused")
	}
	r.mustSay("back to the one before it")
	r.release("fixed")
	r.upgrade()
	r.mustRun("fixed")
	r.rollback()
	r.mustRun("good")
	r.mustStop(syscall.SIGTERM)
}

func (r *running) mustSay(text string) {
	r.t.Helper()
	if !strings.Contains(r.Output(), text) {
		r.t.Errorf("the log does not say %q", text)
	}
}

// A first build that crashes again and again ends the supervisor, with its status and within the limit: somebody above
// has to know.
func TestCrashLoopWithoutABuildBeforeEnds(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Supervisor, s.MaxRestarts = "always", 2 })
	for n := range 3 {
		testutil.Until(t, patience, "it serves", func() bool {
			a, err := r.tryAsk(t.Context(), "GET", "/status")
			return err == nil && a.Status.Generation == n+1
		})
		r.killAll()
	}
	if code, err := r.Wait(patience); err != nil || code != 128+int(syscall.SIGKILL) {
		t.Errorf("exit status %d, %v", code, err)
	}
	r.mustSay("too many crashes in a row")
	r.WaitFamily(t, 0, patience)
}

// If the main generation is killed while a candidate is prepared, the candidate becomes the service, and the supervisor
// starts nobody.
func TestKillInAnUpgradeLeavesItToTheCandidate(t *testing.T) {
	for _, step := range []string{
		"old.started", "old.hello", "old.welcomed", "old.prepared", "old.opened", "old.commit", "old.committed", "old.handed-over",
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := faultAt(t, step, "kill")
			r := startService(t, always, f.env)
			l := r.load(smallLoad)
			_, _ = r.tryAsk(t.Context(), "POST", "/upgrade")
			dead := r.faulted()
			testutil.Until(t, patience, "the candidate serves", func() bool { return r.servesWithout(dead) })
			r.WaitFamily(t, 2, patience)
			if g := r.ask("GET", "/status").Status; g.Generation != 2 || g.Last != nil {
				t.Errorf("generation %d serves, started by %+v", g.Generation, g.Last)
			}
			r.waitKnown()
			r.mustHaveLostOnlyWith(l, f)
			r.mustStop(syscall.SIGTERM)
		})
	}
}

// If the new process dies at any step of its commit, the old one or a new one serves: one, and at once.
func TestKillInACommitLeavesOneService(t *testing.T) {
	for _, step := range []string{"new.commit", "new.ready", "new.serving"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := faultAt(t, step, "kill")
			// An idle connection that has moved dies with the process that has it, so none moves here.
			r := startService(t, func(s *settings) { always(s); s.NoMove = true }, f.env)
			l := r.load(smallLoad)
			_, _ = r.tryAsk(t.Context(), "POST", "/upgrade")
			testutil.Until(t, patience, "one serves", func() bool {
				a, err := r.tryAsk(t.Context(), "GET", "/status")
				return err == nil && a.Status.State == "serving" && len(r.generations()) == 1
			})
			r.mustHaveLostOnlyWith(l, f)
			r.upgrade()
			r.WaitFamily(t, 2, patience)
			r.mustStop(syscall.SIGTERM)
		})
	}
}

// A main generation that does not answer the watchdog is ended and replaced.
func TestWatchdogReplacesAHungGeneration(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Supervisor, s.Watchdog = "always", time.Second })
	r.upgrade() // the new one is the one to be heard
	r.WaitFamily(t, 2, patience)
	hung := r.mainPID()
	answered := time.Now()
	testutil.Until(t, patience, "longer than the watchdog's time", func() bool { return time.Since(answered) > 3*time.Second })
	if r.mainPID() != hung {
		t.Fatal("a generation that is well was replaced")
	}
	if err := syscall.Kill(hung, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, patience, "another one serves", func() bool { pid := r.mainPID(); return pid != 0 && pid != hung })
	r.mustSay("the main generation is silent")
	r.WaitFamily(t, 2, patience)
	r.mustStop(syscall.SIGTERM)
}

// The supervisor's own memory is small: what it does not share with the service it supervises.
func TestSupervisorIsSmall(t *testing.T) {
	t.Parallel()
	r := startService(t, always)
	for range 5 {
		r.upgrade()
	}
	r.WaitFamily(t, 2, patience)
	own, service := privateKB(t, r.PID()), privateKB(t, r.mainPID())
	t.Logf("private memory: supervisor %d KiB, service %d KiB", own, service)
	if own > 8<<10 && !raceDetector() {
		t.Errorf("the supervisor has %d KiB of its own", own)
	}
	r.mustStop(syscall.SIGTERM)
}

// privateKB is the memory that a process shares with no other.
func privateKB(t *testing.T, pid int) (sum int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "Private_") {
			n, _ := strconv.Atoi(f[1])
			sum += n
		}
	}
	return sum
}
