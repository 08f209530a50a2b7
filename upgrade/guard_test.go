//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// mustBeBack waits until another process than the dead ones serves, and until requests are answered again.
func mustBeBack(t *testing.T, r *testclient.Service, l *testutil.Load, dead []int) {
	t.Helper()
	testutil.Until(t, patience, "another process serves", func() bool {
		pid := r.MainPID()
		return pid != 0 && !slices.Contains(dead, pid)
	})
	answered := l.Total()
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > answered+200 })
}

// timesBack returns, sorted, the times from each kill to the first answer of another process.
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

// If every generation is killed at once under load, the supervisor starts the last committed build with the sockets that it
// holds. No connection is refused, and only the requests that the dead processes had received are lost.
func TestKillOfEveryGenerationRefusesNothing(t *testing.T) {
	testutil.AlsoWithoutRace()
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor, s.Guard = "always", time.Millisecond })
	r.Upgrade()
	r.WaitFamily(t, 2, patience)
	l := r.Load(smallLoad)
	var kills []time.Time
	var dead [][]int
	for range 20 {
		pids, at := r.KillAll()
		kills, dead = append(kills, at), append(dead, pids)
		mustBeBack(t, r, l, slices.Concat(dead...))
	}
	status := r.Status()
	if status.Generation != 22 || status.Last == nil || status.Last.Kind != "crash" || !strings.Contains(status.Last.Reason, "killed") {
		t.Errorf("after 20 kills of generation 2 and its successors: %+v, last %+v", status, status.Last)
	}
	report := l.Stop()
	back := timesBack(report, kills, dead)
	a := testutil.Account(t, report, r.Dir+"/journal")
	t.Logf("killed 20 times: refused %d, back after %v to %v, median %v\n%s", a.Counts[testutil.Refused], back[0], back[19], back[10], a)
	if a.Counts[testutil.Refused] > 0 {
		t.Errorf("%d connections were refused", a.Counts[testutil.Refused])
	}
	r.MustHaveLostOnlyThen(a, kills, slices.Concat(dead...))
	testutil.Until(t, patience, "nobody is left to be reaped", func() bool { return testclient.Zombies(t, r.PID()) == 0 })
	r.Upgrade()
	r.MustStop(syscall.SIGTERM)
}

// If a build crashes after its commit, and again after its restart, the supervisor starts the build that was committed before
// it, and Status and the log show this. No connection is refused.
func TestCrashLoopAfterTheCommitBringsBackTheBuildBefore(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor, s.BadBuildCrashes = "always", true })
	r.Release("good")
	r.Upgrade()
	l := r.Load(smallLoad)
	r.Release("bad")
	begun := time.Now()
	_, _ = r.TryAsk(t.Context(), "POST", "/upgrade") // its answer may die with the process
	var status upgrade.Status
	testutil.Until(t, patience, "the build before serves again", func() bool {
		a, err := r.TryAsk(t.Context(), "GET", "/status")
		status = a.Status
		return err == nil && status.State == "serving" && status.Generation == 5
	})
	took := time.Since(begun)
	r.MustRun("good")
	if status.Last == nil || status.Last.Kind != "crash-rollback" || !strings.Contains(status.Last.Reason, "exit status 3") {
		t.Errorf("the status says %+v", status.Last)
	}
	answered := l.Total()
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > answered+50 })
	a := r.Account(l)
	t.Logf("the build before serves %v after the upgrade was asked for; refused %d\n%s", took, a.Counts[testutil.Refused], a)
	if a.Counts[testutil.Refused] > 0 {
		t.Error("connections were refused")
	}
	r.MustSay("back to the one before it")
	r.Release("fixed")
	r.Upgrade()
	r.MustRun("fixed")
	r.Rollback()
	r.MustRun("good")
	r.MustStop(syscall.SIGTERM)
}

// If the first build crashes again and again, the supervisor ends when the service was down for GiveUp. Its exit status is
// that of the crashed process, so that a service manager notices the failure.
func TestCrashLoopWithoutABuildBeforeEnds(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor, s.GiveUp = "always", 500*time.Millisecond })
	testutil.Until(t, patience, "the supervisor gives up", func() bool {
		for _, pid := range r.Generations() {
			if pid == r.MainPID() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return strings.Contains(r.Output(), "the service is down for too long: the supervisor ends")
	})
	if code, err := r.Wait(patience); err != nil || code != 128+int(syscall.SIGKILL) {
		t.Errorf("exit status %d, %v", code, err)
	}
	if n := strings.Count(r.Output(), "started again"); n == 0 {
		t.Error("it was never started again")
	}
	down := regexp.MustCompile(`down=(\S+) GiveUp=500ms`).FindStringSubmatch(r.Output())
	if down == nil {
		t.Fatal("the log does not say how long it was down")
	}
	if d, err := time.ParseDuration(down[1]); err != nil || d < 500*time.Millisecond {
		t.Errorf("it gave up after %v, %v", down[1], err)
	}
	r.WaitFamily(t, 0, patience)
}

// The candidate gets its channel to the supervisor with the message welcome. If the main generation is killed before, the
// candidate ends, the supervisor starts the service again, and one process serves.
func TestKillBeforeTheWelcomeLeavesOneService(t *testing.T) {
	for _, step := range []string{"old.forked", "old.announced", "old.started", "old.hello"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, step, "kill")
			r := testclient.Start(t, always, f.Env)
			l := r.Load(smallLoad)
			_, _ = r.TryAsk(t.Context(), "POST", "/upgrade")
			dead := r.Faulted()
			testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(dead) })
			r.WaitFamily(t, 2, patience)
			r.WaitKnown()
			r.MustHaveLostOnlyWith(l, f)
			r.Upgrade()
			r.WaitFamily(t, 2, patience)
			r.MustStop(syscall.SIGTERM)
		})
	}
}

// If the new process dies at any step of its commit, exactly one process serves: the old process, or a process that the
// supervisor starts.
func TestKillInACommitLeavesOneService(t *testing.T) {
	for _, step := range []string{"new.commit", "new.ready", "new.serving"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, step, "kill")
			// An idle connection that has moved dies with the process that has it, so none moves here.
			r := testclient.Start(t, func(s *plan.Settings) { always(s); s.NoMove = true }, f.Env)
			l := r.Load(smallLoad)
			_, _ = r.TryAsk(t.Context(), "POST", "/upgrade")
			testutil.Until(t, patience, "one serves", func() bool {
				a, err := r.TryAsk(t.Context(), "GET", "/status")
				return err == nil && a.Status.State == "serving" && len(r.Generations()) == 1
			})
			r.MustHaveLostOnlyWith(l, f)
			r.Upgrade()
			r.WaitFamily(t, 2, patience)
			r.MustStop(syscall.SIGTERM)
		})
	}
}

// If the main generation sends no heartbeat within Options.Watchdog, the supervisor ends it and starts another process.
func TestWatchdogReplacesAHungGeneration(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor, s.Watchdog = "always", time.Second })
	r.Upgrade() // from now on the watchdog expects heartbeats of the new generation
	r.WaitFamily(t, 2, patience)
	hung := r.MainPID()
	answered := time.Now()
	testutil.Until(t, patience, "longer than the watchdog's time", func() bool { return time.Since(answered) > 3*time.Second })
	if r.MainPID() != hung {
		t.Fatal("a generation that is well was replaced")
	}
	if err := syscall.Kill(hung, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, patience, "another one serves", func() bool { pid := r.MainPID(); return pid != 0 && pid != hung })
	r.MustSay("the main generation is silent")
	r.WaitFamily(t, 2, patience)
	r.MustStop(syscall.SIGTERM)
}

// The private memory of the supervisor, which it does not share with the service, is small.
func TestSupervisorIsSmall(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	for range 5 {
		r.Upgrade()
	}
	r.WaitFamily(t, 2, patience)
	own, service := privateKB(t, r.PID()), privateKB(t, r.MainPID())
	t.Logf("private memory: supervisor %d KiB, service %d KiB", own, service)
	if own > 8<<10 && !raceDetector() {
		t.Errorf("the supervisor has %d KiB of its own", own)
	}
	r.MustStop(syscall.SIGTERM)
}

// privateKB returns the size, in KiB, of the memory that a process shares with no other process.
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
