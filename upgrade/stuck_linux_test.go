package upgrade_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// These tests use a service whose serve is http.Serve, which ignores the end of its context.

// ignores makes such a service, with a short StuckAfter.
func ignores(s *plan.Settings) { s.Ignores, s.StuckAfter = true, time.Second }

// withAndWithout has the settings for a service with and without a supervisor. The key is the number of its processes while no
// upgrade is under way.
var withAndWithout = map[int]func(*plan.Settings){1: func(*plan.Settings) {}, 2: always}

// mustSayStuck fails the test unless n processes have logged that their serve is stuck, and their main has received the error.
func mustSayStuck(t *testing.T, r *testclient.Service, n int) {
	t.Helper()
	for _, line := range []string{
		"serve goes on although its context has ended", "main: upgrade: serve ignores the end of its context",
	} {
		if got := strings.Count(r.Output(), line); got != n {
			t.Errorf("the log says %d times %q, want %d", got, line, n)
		}
	}
}

// After an upgrade or a rollback, the old process goes on answering its connections for StuckAfter, and then ends. One process
// is left, new connections lose nothing, and the pid file names the process that serves.
func TestServeThatIgnoresItsContextLeavesNoProcess(t *testing.T) {
	for processes, supervision := range withAndWithout {
		t.Run(fmt.Sprint(processes, " processes"), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { ignores(s); supervision(s) })
			r.WaitServing(1, 0)
			l := r.Load(testutil.LoadOptions{New: 3})
			r.Release("second")
			for n, ask := range []func(){r.Upgrade, r.Rollback} {
				keeps := r.Dial()
				keeps.Ask("/work")
				old := r.MainPID()
				ask()
				handed := time.Now() // a little later than the end of the context
				r.WaitServing(n+2, old)
				if keeps.Ask("/work"); keeps.By != fmt.Sprint("g", n+1) {
					t.Errorf("%s answers on a connection of generation %d", keeps.By, n+1)
				}
				r.WaitFamily(t, processes, patience)
				if took := time.Since(handed); took < 500*time.Millisecond {
					t.Errorf("the old process has ended after %v", took)
				}
				testutil.Until(t, patience, "the connection of the old process is closed", func() bool { return !keeps.Open() })
				mustSayStuck(t, r, n+1)
			}
			r.Account(l).MustBeClean(t)
		})
	}
}

// SIGTERM ends such a service after StuckAfter: no process is left, and no pid file.
func TestServeThatIgnoresItsContextStops(t *testing.T) {
	for processes, supervision := range withAndWithout {
		t.Run(fmt.Sprint(processes, " processes"), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { ignores(s); supervision(s) })
			r.WaitServing(1, 0)
			r.Signal(syscall.SIGTERM)
			if code, err := r.Wait(patience); err != nil || code != 1 { // main has received the error and exits with status 1
				t.Errorf("exit status %d, %v", code, err)
			}
			r.WaitFamily(t, 0, patience)
			mustSayStuck(t, r, 1)
			if exists(r.Set.PIDFile) {
				t.Error("the pid file is left")
			}
			for _, line := range []string{"restart", "crash"} {
				if strings.Contains(r.Output(), line) {
					t.Errorf("the log has %q", line)
				}
			}
		})
	}
}

// A candidate that is taken back ends by itself: at once if it has accepted nothing, and otherwise after StuckAfter. The old
// process serves on, and can upgrade.
func TestCandidateThatIgnoresItsContextGoes(t *testing.T) {
	for processes, supervision := range withAndWithout {
		t.Run(fmt.Sprint(processes, " processes"), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { ignores(s); supervision(s); s.Soak, s.NoMove = time.Minute, true })
			r.WaitServing(1, 0)
			l := r.Load(testutil.LoadOptions{New: 3})
			r.Change(func(s *plan.Settings) { s.Bad = plan.CheckFails })
			if a := r.Ask("POST", "/upgrade"); a.Phase != "check" {
				t.Errorf("upgrade: %+v", a)
			}
			mustSayStuck(t, r, 0)
			r.Change(func(s *plan.Settings) { s.Bad = "" })
			_, done := r.Soaking()
			testutil.Until(t, patience, "the candidate answers", func() bool { return l.Seen("g2") })
			r.Ask("POST", "/abort")
			if a := <-done; a.Phase != "soak" {
				t.Errorf("upgrade: %+v", a)
			}
			r.WaitFamily(t, processes, patience)
			if strings.Contains(r.Output(), "killed the candidate") {
				t.Error("a candidate was killed")
			}
			r.UpgradeNow()
			r.WaitFamily(t, processes, patience)
			r.Account(l).MustBeClean(t)
		})
	}
}
