//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// startContainer starts the service as process 1 of a new PID namespace. If init is given, the init is process 1, and starts
// the service. The result first is the pid of process 1 outside the namespace.
func startContainer(t *testing.T, change func(*plan.Settings), init ...string) (r *testclient.Service, first int) {
	t.Helper()
	unshare := testutil.Program(t, "unshare", "util-linux")
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may make a PID namespace")
	}
	r = testclient.StartBy(t, change, func(r *testclient.Service) *testutil.Proc {
		args := append([]string{"--pid", "--fork", "--mount-proc", "--kill-child"}, append(init, testclient.Binary(t))...)
		return testutil.StartCommand(t, testutil.Cfg{Env: []string{r.Env(), "MIDAIR_TEST_ROLE=service"}}, unshare, args...)
	})
	for _, pid := range r.Family() {
		if insidePID(pid) == 1 {
			return r, pid
		}
	}
	t.Fatalf("none of %v is process 1", r.Family())
	return nil, 0
}

// insidePID returns the pid that a process has in its innermost PID namespace.
func insidePID(pid int) int {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status")) // the process has perhaps ended
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "NSpid:" { // the first number is the pid outside
			n, _ := strconv.Atoi(f[len(f)-1])
			return n
		}
	}
	return 0
}

// As process 1 of a container the service can be upgraded as everywhere: no upgrade is refused, no zombie is left, and SIGTERM
// ends all processes with status 0. Supervise does this by default.
func TestContainerSurvivesUpgrades(t *testing.T) {
	t.Parallel()
	r, first := startContainer(t, func(s *plan.Settings) { s.Supervisor = "pid1" })
	l := r.Load(smallLoad)
	for n := range 20 {
		if err := syscall.Kill(first, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint("g", n+2)
		testutil.Until(t, patience, want+" answers", func() bool { return l.Seen(want) })
		r.WaitFamily(t, 3, patience) // unshare, the supervisor, the service
	}
	a := r.Account(l)
	testutil.Until(t, patience, "nobody is left to be reaped", func() bool { return testclient.Zombies(t, first) == 0 })
	t.Logf("20 upgrades as process 1: %d refused, no zombies\n%s", a.Counts[testutil.Refused], a)
	a.MustBeClean(t)
	if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := r.Wait(patience); err != nil || code != 0 {
		t.Errorf("exit status %d, %v", code, err)
	}
	r.WaitFamily(t, 0, patience)
}

// The comparison: with tableflip alone the container dies at the first upgrade, because its process 1 has ended.
func TestContainerDiesWithTableflipAlone(t *testing.T) {
	t.Parallel()
	r, first := startContainer(t, func(s *plan.Settings) { s.Plain = true })
	l := r.Load(smallLoad)
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > 100 })
	if err := syscall.Kill(first, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.WaitFamily(t, 0, patience)
	failed := l.Total()
	testutil.Until(t, patience, "more requests were tried", func() bool { return l.Total() > failed+100 })
	a := r.Account(l)
	t.Logf("tableflip alone as process 1, one upgrade: %d of %d requests refused", a.Counts[testutil.Refused], a.Total)
	if a.Counts[testutil.Refused] == 0 {
		t.Error("it survives: the comparison is out of date")
	}
}

// Without the supervisor an upgrade of process 1 is refused before a process is started, because the end of the old process
// would be the end of the container.
func TestProcessOneRefusesUpgradesWithoutSupervisor(t *testing.T) {
	t.Parallel()
	r, _ := startContainer(t, func(s *plan.Settings) { s.Supervisor = "never" })
	a := r.Ask("POST", "/upgrade")
	if a.Committed || a.Phase != "start" || !strings.Contains(a.Reason, "process 1") || !strings.Contains(a.Reason, "upgrade.Supervise") {
		t.Errorf("committed %v, phase %q, reason %q", a.Committed, a.Phase, a.Reason)
	}
	r.WaitFamily(t, 2, patience) // unshare, the service
}
