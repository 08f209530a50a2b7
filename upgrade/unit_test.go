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

// These tests show how systemd treats a service that replaces its processes. testclient.Unit knows parents and children, as
// systemd does.

// The two kinds of units: with the supervisor as the main process that never changes, and without a supervisor.
var (
	supervisedUnit   = testclient.UnitFile{Access: "main", Stores: 16}
	unsupervisedUnit = testclient.UnitFile{Access: "all", Stores: 16}
)

// inUnits runs a test with and without the supervisor, also in units where systemd accepts messages of the main process only.
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

// mustReload reloads the unit. The generation must be the service afterwards.
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

// words returns the first lines of messages.
func words(all []testclient.Datagram) (first []string) {
	for _, d := range all {
		word, _, _ := strings.Cut(d.Text, "\n")
		first = append(first, word)
	}
	return first
}

// mustStopAnswering stops the unit while requests are open. The requests must be answered, and systemd must kill no process.
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

// After upgrades, an open request is answered during "systemctl stop", and systemd kills no process: systemd waits for its
// children only, and the main process is one of them.
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

// In a stop, systemd sends SIGTERM to every process of the unit, so some processes get the signal twice. Nevertheless older
// generations that drain finish their requests.
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

// SIGTERM to every process of the unit may end the main generation before the supervisor handles its own SIGTERM. The
// supervisor must not take this signal for a second request to stop, which would kill the older generations that drain.
func TestStopIsNoSecondStopForTheSupervisor(t *testing.T) {
	t.Parallel()
	for n := range 3 { // the supervisor finds both events at once, and handles either first
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

// "systemctl restart" refuses no connection: systemd keeps the sockets in the store until the service is started again.
func TestRestartRefusesNobody(t *testing.T) {
	inUnits(t, func(t *testing.T, file testclient.UnitFile, how func(*plan.Settings)) {
		u := testclient.StartUnit(t, file, how)
		mustRestart(t, u)
		mustRestart(t, u)
		mustStopAnswering(t, u, u.Dial().Begin())
	})
}

// The same after an upgrade: now the store has the sockets of the new generation, and the stop is orderly.
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

// If the main generation dies, the main process of the unit lives on. Another generation serves at once, while an older
// generation still answers its open requests. systemd has nothing to do.
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

// Without a supervisor, systemd notices the death of the main process at once, because this process is its child. An older
// generation that still drains answers its open requests. Then systemd starts the service again on the sockets of the store.
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

// In a unit of Type=simple, which has no notify socket, an upgrade does not end the service, because systemd has started the
// supervisor, and the supervisor lives on.
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

// A release crashes after its commit, and again after its restart. It is replaced by the build before, and no connection is
// refused. systemd notices nothing: otherwise it would start the bad release until the start limit is reached.
func TestCrashLoopLeavesTheUnitUp(t *testing.T) {
	t.Parallel()
	u := testclient.StartUnit(t, supervisedUnit, func(s *plan.Settings) { s.Supervisor, s.BadBuildCrashes = "always", true })
	u.Release("good")
	mustReload(t, u, 2)
	l := u.Load(smallLoad)
	u.Release("bad")
	if err := u.Reload(patience); err != nil {
		t.Errorf("reload: %v", err) // must succeed, because the release has served
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

// The watchdog of a unit gets the signs of life of the main generation from the supervisor. While the generation is suspended,
// it gets none. When the supervisor has noticed this, it sends signs of life itself while it replaces the generation: otherwise
// systemd would end the whole unit. Afterwards the signs of life of the next generation are forwarded.
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
	u.WaitOutput(patience, "the main generation is silent") // no sign of life of this generation is on the way any more
	before := u.Manager.Pings(u.PID()) + 1                  // one comes with the kill, which is too late, and does not count
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
