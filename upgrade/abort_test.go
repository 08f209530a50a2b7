//go:build linux

package upgrade_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// After Abort there is nothing to commit, whatever the candidate still does.
func TestCommitAfterAbortIsRefused(t *testing.T) {
	t.Parallel()
	f := faultAt(t, "new.aborted", "stop")
	r := startService(t, func(s *settings) { s.Soak, s.AbortGrace = time.Minute, time.Second }, f.env)
	_, done := r.soaking()
	r.ask("POST", "/abort")
	if a := r.ask("POST", "/commit"); !a.NotReady {
		t.Errorf("commit after abort: %+v", a)
	}
	if a := <-done; !a.Aborted {
		t.Errorf("upgrade: %+v", a)
	}
}

// A candidate that has given up still answers what it has begun, and starts anew if the old process dies meanwhile.
func TestCandidateThatFailedSurvivesTheOldProcess(t *testing.T) {
	t.Parallel()
	r := startService(t, staying)
	candidate, done := r.soaking()
	begun, other := r.connect("g2").begin(), r.connect("g2")
	_ = syscall.Kill(candidate, syscall.SIGTERM)
	other.waitEnding() // it has given up
	r.Kill()
	<-done
	begun.finish()
	r.waitServing(2, candidate)
	r.WaitFamily(t, 1, patience)
}

// A service that was told to stop stays down: a candidate that was taken back before does not start anew, not even if
// the old process is killed.
func TestAbortThenTermThenKillStaysDown(t *testing.T) {
	t.Parallel()
	r := startService(t, staying)
	_, done := r.soaking()
	begun, other := r.connect("g2").begin(), r.connect("g2")
	r.ask("POST", "/abort")
	other.waitEnding() // it is taken back
	other = r.connect("g1")
	var last []*peer
	for range 5 {
		last = append(last, r.connect("g1").begin())
	}
	r.signalMain(syscall.SIGTERM)
	other.waitEnding() // the signal was noticed
	for _, p := range last {
		p.finish() // and whatever it had woken has run
	}
	r.Kill()
	<-done
	begun.finish()
	r.WaitFamily(t, 0, patience)
}

// A candidate that was taken back, and whose old process dies while it finishes a request, starts itself anew although a
// still older generation drains; nobody loses a request.
func TestRevivedCandidateKnowsTheOlderOnes(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.NoMove = true })
	first := r.dial().begin()
	r.change(staying) // for the second one
	r.upgrade()
	r.change(func(s *settings) { s.Soak = 50 * time.Millisecond })
	candidate, done := r.soaking()
	held, other := r.connect("g3").begin(), r.connect("g3")
	old := r.mainPID()
	r.ask("POST", "/abort")
	other.waitEnding()
	_ = syscall.Kill(old, syscall.SIGKILL)
	<-done
	r.waitServing(3, candidate)
	held.finish()
	first.finish()
	r.upgrade()
	r.WaitFamily(t, 1, patience)
}

// An abort gives everything back at once: by hand, or because the caller of Upgrade went away.
func TestAbortTakesTheUpgradeBack(t *testing.T) {
	r := startService(t, func(s *settings) { s.Soak = time.Minute })
	l := r.load(smallLoad)
	for _, how := range []string{"by hand", "context canceled"} {
		ctx, cancel := context.WithCancel(t.Context())
		path := "/upgrade"
		if how != "by hand" {
			path = "/upgrade-while-connected"
		}
		done := make(chan answer, 1)
		go func() {
			a, _ := r.tryAsk(ctx, "POST", path)
			done <- a
		}()
		r.waitPhase("soak")
		if how == "by hand" {
			r.ask("POST", "/abort")
		} else {
			cancel()
		}
		if a := <-done; how == "by hand" && (!a.Aborted || a.Phase != "soak" || !strings.Contains(a.Reason, how)) {
			t.Fatalf("aborted upgrade: %+v", a)
		}
		cancel()
		r.WaitFamily(t, 1, 20*time.Second)
		testutil.Until(t, 10*time.Second, "the outcome is known: "+how, func() bool {
			last := r.ask("GET", "/status").Status.Last
			return last != nil && !last.Committed && strings.Contains(last.Reason, how)
		})
	}
	r.upgradeNow()
	r.account(l).MustBeClean(t)
}
