//go:build linux

package upgrade_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// What systemd makes of a service that replaces its processes: testclient.Unit knows parents, as systemd does.

// The two kinds of units: with the supervisor as the main process that never changes, and without a supervisor.
var (
	supervisedUnit   = testclient.UnitFile{Access: "main", Stores: 16}
	unsupervisedUnit = testclient.UnitFile{Access: "all", Stores: 16}
)

// inUnits runs a test with the supervisor and without, also where systemd hears the main process only.
func inUnits(t *testing.T, test func(t *testing.T, file testclient.UnitFile, how func(*plan.Settings))) {
	t.Parallel()
	never := func(*plan.Settings) {}
	t.Run("supervised", func(t *testing.T) {
		t.Parallel()
		test(t, supervisedUnit, always)
	})
	t.Run("unsupervised", func(t *testing.T) {
		t.Parallel()
		test(t, unsupervisedUnit, never)
	})
	t.Run("unsupervised, NotifyAccess=main", func(t *testing.T) {
		t.Parallel()
		test(t, supervisedUnit, never)
	})
}

// mustReload reloads the unit, which must make the generation the service.
func mustReload(t *testing.T, u *testclient.Unit, generation int) {
	t.Helper()
	before := u.MainPID()
	if err := u.Reload(patience); err != nil {
		t.Fatalf("reload: %v", err)
	}
	u.WaitServing(generation, before)
}

// alone waits until no older generation is left.
func alone(t *testing.T, u *testclient.Unit) {
	t.Helper()
	left := 1
	if u.Set.Supervisor == "always" {
		left = 2
	}
	u.WaitFamily(t, left, patience)
}

// words are the first lines of messages.
func words(all []testclient.Datagram) (first []string) {
	for _, d := range all {
		word, _, _ := strings.Cut(d.Text, "\n")
		first = append(first, word)
	}
	return first
}

// mustStopAnswering stops the unit while requests are open. They must be answered, and nothing may be killed.
func mustStopAnswering(t *testing.T, u *testclient.Unit, open ...*testclient.Peer) {
	t.Helper()
	before, stopped := u.Manager.Count(), make(chan error, 1)
	go func() { stopped <- u.Stop(patience) }()
	testutil.Until(t, patience, "the service stops", func() bool {
		return len(stopped) > 0 || slices.Contains(words(u.Manager.Since(before)), "STOPPING=1")
	})
	for _, p := range open {
		p.Finish()
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
}

// After upgrades, "systemctl stop" answers the request that is open, and kills nothing: the main process is a child of systemd,
// which waits for its children only.
func TestStopAfterUpgradesAnswersOpenRequests(t *testing.T) {
	inUnits(t, func(t *testing.T, file testclient.UnitFile, how func(*plan.Settings)) {
		u := testclient.StartUnit(t, file, how)
		for n := range 3 {
			mustReload(t, u, n+2)
		}
		alone(t, u)
		mustStopAnswering(t, u, u.Dial().Begin())
		if left := u.Manager.Stored(); len(left) > 0 || u.Main() != 0 {
			t.Errorf("after the stop the store has %q, the main process is %d", left, u.Main())
		}
	})
}

// A stop gets TERM to every process of the unit, so some hear it twice. Older generations that drain finish all the same.
func TestStopAnswersRequestsOfOlderGenerations(t *testing.T) {
	inUnits(t, func(t *testing.T, file testclient.UnitFile, how func(*plan.Settings)) {
		u := testclient.StartUnit(t, file, how)
		var open []*testclient.Peer
		for n := range 2 {
			open = append(open, u.Dial().Begin())
			mustReload(t, u, n+2)
		}
		mustStopAnswering(t, u, open...)
	})
}

// TERM to every process of the unit may end the main generation before the supervisor sees its own TERM: that is no second
// request to end, which would kill the older generations that drain.
func TestStopIsNoSecondStopForTheSupervisor(t *testing.T) {
	t.Parallel()
	for n := range 3 { // it finds both at once, and takes the one or the other first
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			u := testclient.StartUnit(t, supervisedUnit, always)
			open := u.Dial().Begin()
			mustReload(t, u, 2)
			main := u.MainPID()
			u.Signal(syscall.SIGSTOP)
			testutil.Until(t, patience, "the supervisor is stopped", func() bool { return testclient.Stopped(u.PID()) })
			u.SignalMain(syscall.SIGTERM)
			testutil.Until(t, patience, "the main generation has ended", func() bool { return testclient.Gone(main) })
			u.Signal(syscall.SIGTERM)
			u.Signal(syscall.SIGCONT)
			testutil.Until(t, patience, "the supervisor has both", func() bool {
				return !testclient.Pending(u.PID(), syscall.SIGTERM) && testclient.Zombies(t, u.PID()) == 0
			})
			open.Finish()
			if code, err := u.Wait(patience); err != nil || code != 0 {
				t.Errorf("exit status %d, %v", code, err)
			}
		})
	}
}

// mustRestart restarts the unit under load, which must not lose a request.
func mustRestart(t *testing.T, u *testclient.Unit) {
	t.Helper()
	l := u.Load(testutil.LoadOptions{New: 4})
	dead := u.MainPID()
	if err := u.Restart(patience); err != nil {
		t.Errorf("restart: %v", err)
	}
	u.WaitServing(1, dead)
	answered := l.Total()
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > answered+100 })
	u.Account(l).MustBeClean(t)
}

// "systemctl restart" refuses nobody: systemd keeps what is in the store for the start that follows.
func TestRestartRefusesNobody(t *testing.T) {
	inUnits(t, func(t *testing.T, file testclient.UnitFile, how func(*plan.Settings)) {
		u := testclient.StartUnit(t, file, how)
		mustRestart(t, u)
		mustRestart(t, u)
		mustStopAnswering(t, u, u.Dial().Begin())
	})
}

// The same after an upgrade: the sockets in the store are those of the service by now, and the stop is an orderly one.
func TestRestartAfterUpgradesRefusesNobody(t *testing.T) {
	inUnits(t, func(t *testing.T, file testclient.UnitFile, how func(*plan.Settings)) {
		u := testclient.StartUnit(t, file, how)
		for n := range 2 {
			mustReload(t, u, n+2)
		}
		alone(t, u)
		mustRestart(t, u)
	})
}

// The death of the main generation is no death of the main process: another one serves at once, while an older generation
// still answers what it has begun, and systemd has nothing to do.
func TestDeathIsMendedWhileAnOlderGenerationDrains(t *testing.T) {
	t.Parallel()
	u := testclient.StartUnit(t, supervisedUnit, always)
	open := u.Dial().Begin()
	mustReload(t, u, 2)
	dead := u.MainPID()
	u.SignalMain(syscall.SIGKILL)
	u.WaitServing(3, dead)
	u.Dial().Close()
	open.Finish()
	if !u.Runs() || u.Main() != u.PID() {
		t.Errorf("the unit runs: %v, with the main process %d, which was %d", u.Runs(), u.Main(), u.PID())
	}
	mustStopAnswering(t, u)
}

// Without a supervisor the death of the main process is noticed at once, as that of a child, although an older generation
// still drains, which answers what it has begun; then the service is started again on the sockets of the store.
func TestManagerNoticesADeathWhileAnOlderGenerationDrains(t *testing.T) {
	t.Parallel()
	u := testclient.StartUnit(t, unsupervisedUnit, nil)
	open := u.Dial().Begin()
	mustReload(t, u, 2)
	dead := u.MainPID()
	u.SignalMain(syscall.SIGKILL)
	testutil.Until(t, patience, "systemd has noticed the death", func() bool { return !u.Runs() })
	waiting := u.Connect()
	open.Finish()
	u.WaitFamily(t, 0, patience)
	u.Start()
	u.WaitServing(1, dead)
	waiting.Ask("/work")
}

// In a unit of Type=simple, which has no notify socket, the supervisor is the process that systemd has started, so an upgrade
// is not the end of the service.
func TestSimpleUnitIsUpgraded(t *testing.T) {
	t.Parallel()
	u := testclient.StartUnit(t, testclient.UnitFile{}, always)
	l := u.Load(smallLoad)
	for n := range 2 {
		before := u.MainPID()
		u.Signal(syscall.SIGHUP) // ExecReload=kill -HUP $MAINPID
		u.WaitServing(n+2, before)
	}
	testutil.Until(t, patience, "g3 answers", func() bool { return l.Seen("g3") })
	u.Account(l).MustBeClean(t)
	alone(t, u)
	if !u.Runs() {
		t.Error("the unit has ended")
	}
	if err := u.Stop(patience); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// A release that crashes after its commit, and again after its restart, is replaced by the build before, and nobody is refused.
// systemd notices nothing of it: it would start that release until the start limit is reached.
func TestCrashLoopLeavesTheUnitUp(t *testing.T) {
	t.Parallel()
	u := testclient.StartUnit(t, supervisedUnit, func(s *plan.Settings) { s.Supervisor, s.BadBuildCrashes = "always", true })
	u.Release("good")
	mustReload(t, u, 2)
	l := u.Load(smallLoad)
	u.Release("bad")
	if err := u.Reload(patience); err != nil {
		t.Errorf("reload: %v", err) // the release has served
	}
	u.WaitServing(5, 0)
	u.MustRun("good")
	answered := l.Total()
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > answered+50 })
	if a := u.Account(l); a.Counts[testutil.Refused] > 0 {
		t.Errorf("connections were refused:\n%s", a)
	}
	if !u.Runs() || u.Main() != u.PID() {
		t.Errorf("the unit runs: %v, with the main process %d, which was %d", u.Runs(), u.Main(), u.PID())
	}
	u.Release("fixed")
	mustReload(t, u, 6)
	u.MustRun("fixed")
}

// The watchdog of a unit hears the main generation by the supervisor: nothing while the generation is stopped. When the
// supervisor has noticed that, it answers while it replaces the generation, or systemd would end the whole unit; then the next
// generation is heard.
func TestWatchdogOutlivesAStoppedGeneration(t *testing.T) {
	t.Parallel()
	const watchdog = 1200 * time.Millisecond
	file := supervisedUnit
	file.Env = []string{fmt.Sprint("WATCHDOG_USEC=", watchdog.Microseconds())}
	u := testclient.StartUnit(t, file, always)
	heard := func(who string) {
		t.Helper()
		before := u.Manager.Pings(u.PID())
		testutil.Until(t, patience, "pings of "+who, func() bool { return u.Manager.Pings(u.PID()) > before+1 })
	}
	heard("generation 1")
	begun, dead := time.Now(), u.MainPID()
	u.SignalMain(syscall.SIGSTOP)
	u.WaitOutput(patience, "the main generation is silent") // nothing of it is on the way any more
	before := u.Manager.Pings(u.PID()) + 1                  // one is said with the kill, which is too late
	testutil.Until(t, patience, "the supervisor answers", func() bool {
		return u.Manager.Pings(u.PID()) > before || testclient.Gone(dead)
	})
	if u.Manager.Pings(u.PID()) <= before {
		t.Error("systemd has heard nothing until the stopped generation was killed")
	}
	if silence := u.Manager.Silence(begun); silence < watchdog/2 {
		t.Errorf("systemd has heard something every %v, although generation 1 was stopped", silence)
	}
	testutil.Until(t, patience, "generation 2 serves", func() bool { return u.ServesWithout(dead) })
	heard("generation 2")
}
