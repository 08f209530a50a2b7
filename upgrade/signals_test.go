//go:build linux

package upgrade_test

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// If the commit of an upgrade fails, a SIGHUP that came during the upgrade is not lost.
func TestHangupSurvivesAFailedCommit(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.ready", "kill")
	r := testclient.Start(t, long, f.Env)
	r.SignalMain(syscall.SIGHUP)
	r.WaitPhase("soak")
	r.SignalMain(syscall.SIGHUP)
	for range 10 { // after these calls the process has noticed the signal
		r.Ask("GET", "/status")
	}
	r.Change(func(s *plan.Settings) { s.Soak = 50 * time.Millisecond })
	r.Ask("POST", "/commit")
	testutil.Until(t, patience, "the commit has failed", func() bool { return r.Faulted() != 0 })
	testutil.Until(t, patience, "another candidate is committed", func() bool {
		a, err := r.TryAsk(context.Background(), "POST", "/commit")
		return err == nil && a.Status.Generation == 2 && a.Status.State == "serving" && a.Status.PID == r.MainPID()
	})
}

// A candidate that gets SIGTERM while both processes accept gives its kept values back, as after an abort.
func TestTerminatedCandidateGivesStateBack(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, long)
	candidate, done := r.Soaking()
	p := r.DialTo("g2")
	var n int
	for range 50 {
		n = p.Ask("/add")
	}
	p.Close()
	_ = syscall.Kill(candidate, syscall.SIGTERM)
	if a := <-done; !a.Is(upgrade.ErrAborted) || a.Phase != "soak" {
		t.Errorf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	if got := r.Dial().Ask("/add"); got <= n {
		t.Errorf("the old process says %d after the candidate had said %d", got, n)
	}
}

// SIGTERM ends a candidate whose old process dies at the same time, whichever event the candidate notices first. If the
// candidate could still send the old process its failure, it starts a new process, as a candidate that was taken back does. The
// reason: the kernel continues a suspended process when its parent dies, perhaps a moment before the parent's sockets are
// closed.
func TestTermIsNotSwallowedWhenTheOldProcessDies(t *testing.T) {
	for n := range 6 { // the candidate finds both events at once, and handles either first
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, long)
			candidate, done := r.Soaking()
			_ = syscall.Kill(candidate, syscall.SIGSTOP)
			testutil.Until(t, patience, "every thread of the candidate is stopped", func() bool { return testclient.Stopped(candidate) })
			_ = syscall.Kill(candidate, syscall.SIGTERM)
			r.Kill()
			<-done
			_ = syscall.Kill(candidate, syscall.SIGCONT)
			testutil.Until(t, patience, "the candidate has ended", func() bool { return !slices.Contains(r.Family(), candidate) })
		})
	}
}

// SIGTERM ends a process whose serve has returned and that waits for its candidate.
func TestTermAfterServeReturnedEnds(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Timeout = 3 * time.Minute })
	r.Change(func(s *plan.Settings) { s.Bad = plan.HangAtStart })
	r.SignalMain(syscall.SIGHUP)
	r.WaitFamily(t, 2, patience)
	r.Ask("POST", "/end")
	r.WaitOutput(patience, plan.SaysServeReturned)
	r.SignalMain(syscall.SIGTERM)
	if code, err := r.Wait(patience); err != nil || code != 1 {
		t.Errorf("exit %d, %v", code, err)
	}
	r.WaitFamily(t, 0, patience)
}

// Ten SIGHUPs at once cause one upgrade, and at most one more for the signals that came during the first.
func TestTenHangupsAtOnceAreHarmless(t *testing.T) {
	r := testclient.Start(t, nil)
	l := r.Load(smallLoad)
	for range 10 {
		r.SignalMain(syscall.SIGHUP)
	}
	testutil.Until(t, patience, "a new generation serves alone", func() bool {
		a, err := r.TryAsk(context.Background(), "GET", "/status")
		return err == nil && a.Status.Generation >= 2 && a.Status.Candidate == nil && len(r.Family()) == 1
	})
	g := r.Status().Generation
	if g > 3 {
		t.Fatalf("generation %d after ten signals at once", g)
	}
	r.MustRecover(l, g)
	r.Account(l).MustBeClean(t)
}

// A SIGHUP during an upgrade is not lost: the process that serves after the upgrade begins another upgrade.
func TestHangupDuringAnUpgradeIsRemembered(t *testing.T) {
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak = time.Minute })
	r.SignalMain(syscall.SIGHUP)
	r.WaitPhase("soak")
	r.SignalMain(syscall.SIGHUP)
	pid := r.MainPID()
	testutil.Until(t, patience, "the signal has reached a thread", func() bool { // the process may end earlier
		return !testclient.Pending(pid, syscall.SIGHUP)
	})
	r.Change(func(s *plan.Settings) { s.Soak = 50 * time.Millisecond })
	testutil.Until(t, patience, "the third generation serves", func() bool {
		a, err := r.TryAsk(context.Background(), "POST", "/commit")
		return err == nil && a.Status.Generation == 3 && a.Status.State == "serving"
	})
}

// SIGTERM during an upgrade ends the old process and the candidate. Nothing of the service is left.
func TestTermDuringAnUpgradeStopsBoth(t *testing.T) {
	for name, change := range map[string]func(*plan.Settings){
		"start": func(s *plan.Settings) { s.Bad = plan.HangAtStart },
		"check": func(s *plan.Settings) { s.Bad = plan.CheckHangs },
		"bake":  func(s *plan.Settings) { s.Bake = plan.BakeHangs },
		"soak":  func(s *plan.Settings) { s.Soak = time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, change)
			r.BeginUpgrade() // ends with the process
			r.WaitPhase(name)
			r.SignalMain(syscall.SIGTERM)
			if code, err := r.Wait(20 * time.Second); err != nil || code != 0 {
				t.Fatalf("exit %d, %v", code, err)
			}
			r.WaitFamily(t, 0, 10*time.Second)
		})
	}
}

// If SIGTERM comes too late to take the upgrade back, it ends the new process too, because the whole service has to stop.
func TestTermDuringTheCommitStopsTheNewProcess(t *testing.T) {
	f := testclient.FaultAt(t, "new.commit", "stop")
	r := testclient.Start(t, nil, f.Env)
	r.BeginUpgrade() // ends with the process
	testutil.Until(t, patience, "the commit", r.Frozen)
	r.SignalMain(syscall.SIGTERM)
	testutil.Until(t, patience, "the signal is noticed", func() bool {
		_ = syscall.Kill(r.Faulted(), syscall.SIGCONT)
		return len(r.Family()) == 0
	})
}
