//go:build linux

package upgrade_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// A HUP that came during an upgrade is not forgotten when the commit of that upgrade fails.
func TestHangupSurvivesAFailedCommit(t *testing.T) {
	t.Parallel()
	f := faultAt(t, "new.ready", "kill")
	r := startService(t, long, f.env)
	r.signalMain(syscall.SIGHUP)
	r.waitPhase("soak")
	r.signalMain(syscall.SIGHUP)
	for range 10 { // the signal is noticed by then
		r.ask("GET", "/status")
	}
	r.change(func(s *settings) { s.Soak = 50 * time.Millisecond })
	r.ask("POST", "/commit")
	testutil.Until(t, patience, "the commit has failed", func() bool { return r.faulted() != 0 })
	testutil.Until(t, patience, "another candidate is committed", func() bool {
		a, err := r.tryAsk(context.Background(), "POST", "/commit")
		return err == nil && a.Status.Generation == 2 && a.Status.State == "serving" && a.Status.PID == r.mainPID()
	})
}

// A candidate that is told to stop while both accept gives its state back, as one that is taken back does.
func TestTerminatedCandidateGivesStateBack(t *testing.T) {
	t.Parallel()
	r := startService(t, long)
	candidate, done := r.soaking()
	p := r.connect("g2")
	var n int
	for range 50 {
		n = p.ask("/add")
	}
	p.c.Close()
	_ = syscall.Kill(candidate, syscall.SIGTERM)
	if a := <-done; !a.Aborted || a.Phase != "soak" {
		t.Errorf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	if got := r.dial().ask("/add"); got <= n {
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
			r := startService(t, long)
			candidate, done := r.soaking()
			_ = syscall.Kill(candidate, syscall.SIGSTOP)
			testutil.Until(t, patience, "every thread of the candidate is stopped", func() bool { return stopped(candidate) })
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
	r := startService(t, func(s *settings) { s.Timeout = 3 * time.Minute })
	r.change(func(s *settings) { s.Bad = "hang" })
	r.signalMain(syscall.SIGHUP)
	r.WaitFamily(t, 2, patience)
	r.ask("POST", "/end")
	r.WaitOutput(patience, hasReturned)
	r.signalMain(syscall.SIGTERM)
	if code, err := r.Wait(patience); err != nil || code != 1 {
		t.Errorf("exit %d, %v", code, err)
	}
	r.WaitFamily(t, 0, patience)
}

// Ten HUPs at once are one upgrade and at most one more for those that came meanwhile.
func TestTenHangupsAtOnceAreHarmless(t *testing.T) {
	r := startService(t, nil)
	l := r.load(smallLoad)
	for range 10 {
		r.signalMain(syscall.SIGHUP)
	}
	testutil.Until(t, 20*time.Second, "a new generation serves alone", func() bool {
		a, err := r.tryAsk(context.Background(), "GET", "/status")
		return err == nil && a.Status.Generation >= 2 && a.Status.Candidate == nil && len(r.Family()) == 1
	})
	g := r.ask("GET", "/status").Status.Generation
	if g > 3 {
		t.Fatalf("generation %d after ten signals at once", g)
	}
	r.mustRecover(l, g)
	r.account(l).MustBeClean(t)
}

// A HUP during an upgrade is not forgotten: whoever serves afterwards does it.
func TestHangupDuringAnUpgradeIsRemembered(t *testing.T) {
	r := startService(t, func(s *settings) { s.Soak = time.Minute })
	r.signalMain(syscall.SIGHUP)
	r.waitPhase("soak")
	r.signalMain(syscall.SIGHUP)
	pid := r.mainPID()
	testutil.Until(t, 20*time.Second, "the signal has reached a thread", func() bool { // on a busy machine the process may end before
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err == nil && strings.Contains(string(b), "\nShdPnd:\t0000000000000000\n")
	})
	r.change(func(s *settings) { s.Soak = 50 * time.Millisecond })
	testutil.Until(t, 20*time.Second, "the third generation serves", func() bool {
		a, err := r.tryAsk(context.Background(), "POST", "/commit")
		return err == nil && a.Status.Generation == 3 && a.Status.State == "serving"
	})
}

// TERM during an upgrade ends the service: the old process, the candidate, and nothing is left.
func TestTermDuringAnUpgradeStopsBoth(t *testing.T) {
	for name, change := range map[string]func(*settings){
		"start": func(s *settings) { s.Bad = "hang" },
		"check": func(s *settings) { s.Bad = "check-hang" },
		"bake":  func(s *settings) { s.Bake = "forever" },
		"soak":  func(s *settings) { s.Soak = time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startService(t, change)
			go func() { _, _ = r.tryAsk(context.Background(), "POST", "/upgrade") }() // ends with the process
			testutil.Until(t, 20*time.Second, "the phase "+name, func() bool {
				c := r.ask("GET", "/status").Status.Candidate
				return c != nil && string(c.Phase) == name
			})
			r.signalMain(syscall.SIGTERM)
			if code, err := r.Wait(20 * time.Second); err != nil || code != 0 {
				t.Fatalf("exit %d, %v", code, err)
			}
			r.WaitFamily(t, 0, 10*time.Second)
		})
	}
}

// TERM that comes too late to take the upgrade back ends the new process too: the service was told to stop.
func TestTermDuringTheCommitStopsTheNewProcess(t *testing.T) {
	f := faultAt(t, "new.commit", "stop")
	r := startService(t, nil, f.env)
	go func() { _, _ = r.tryAsk(context.Background(), "POST", "/upgrade") }() // ends with the process
	testutil.Until(t, 20*time.Second, "the commit", r.frozen)
	r.signalMain(syscall.SIGTERM)
	testutil.Until(t, 20*time.Second, "the signal is noticed", func() bool {
		_ = syscall.Kill(r.faulted(), syscall.SIGCONT)
		return len(r.Family()) == 0
	})
}
