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

// A HUP that came during an upgrade is not forgotten when the commit of that upgrade fails.
func TestHangupSurvivesAFailedCommit(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.ready", "kill")
	r := testclient.Start(t, long, f.Env)
	r.SignalMain(syscall.SIGHUP)
	r.WaitPhase("soak")
	r.SignalMain(syscall.SIGHUP)
	for range 10 { // the signal is noticed by then
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

// A candidate that is told to stop while both accept gives its state back, as one that is taken back does.
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

// A TERM to a candidate whose old process dies at the same time ends it, whichever it finds first. If it could still tell
// the old process, it starts anew as one that was taken back does: the kernel continues a stopped process when its parent
// dies, which may be a moment before the parent's sockets are closed.
func TestTermIsNotSwallowedWhenTheOldProcessDies(t *testing.T) {
	for n := range 6 { // it finds both at once, and takes the one or the other first
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

// A TERM ends a process whose serve has returned and that waits for its candidate.
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

// Ten HUPs at once are one upgrade and at most one more for those that came meanwhile.
func TestTenHangupsAtOnceAreHarmless(t *testing.T) {
	r := testclient.Start(t, nil)
	l := r.Load(smallLoad)
	for range 10 {
		r.SignalMain(syscall.SIGHUP)
	}
	testutil.Until(t, 20*time.Second, "a new generation serves alone", func() bool {
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

// A HUP during an upgrade is not forgotten: whoever serves afterwards does it.
func TestHangupDuringAnUpgradeIsRemembered(t *testing.T) {
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak = time.Minute })
	r.SignalMain(syscall.SIGHUP)
	r.WaitPhase("soak")
	r.SignalMain(syscall.SIGHUP)
	pid := r.MainPID()
	testutil.Until(t, 20*time.Second, "the signal has reached a thread", func() bool { // on a busy machine the process may end before
		return !testclient.Pending(pid, syscall.SIGHUP)
	})
	r.Change(func(s *plan.Settings) { s.Soak = 50 * time.Millisecond })
	testutil.Until(t, 20*time.Second, "the third generation serves", func() bool {
		a, err := r.TryAsk(context.Background(), "POST", "/commit")
		return err == nil && a.Status.Generation == 3 && a.Status.State == "serving"
	})
}

// TERM during an upgrade ends the service: the old process, the candidate, and nothing is left.
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

// TERM that comes too late to take the upgrade back ends the new process too: the service was told to stop.
func TestTermDuringTheCommitStopsTheNewProcess(t *testing.T) {
	f := testclient.FaultAt(t, "new.commit", "stop")
	r := testclient.Start(t, nil, f.Env)
	r.BeginUpgrade() // ends with the process
	testutil.Until(t, 20*time.Second, "the commit", r.Frozen)
	r.SignalMain(syscall.SIGTERM)
	testutil.Until(t, 20*time.Second, "the signal is noticed", func() bool {
		_ = syscall.Kill(r.Faulted(), syscall.SIGCONT)
		return len(r.Family()) == 0
	})
}
