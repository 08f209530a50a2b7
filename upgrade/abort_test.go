//go:build linux

package upgrade_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// After Abort, Commit is refused, even while the candidate has not ended.
func TestCommitAfterAbortIsRefused(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.aborted", "stop")
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak, s.AbortGrace = time.Minute, time.Second }, f.Env)
	_, done := r.Soaking()
	r.Ask("POST", "/abort")
	if a := r.Ask("POST", "/commit"); !a.Is(upgrade.ErrNotReady) {
		t.Errorf("commit after abort: %+v", a)
	}
	if a := <-done; !a.Is(upgrade.ErrAborted) {
		t.Errorf("upgrade: %+v", a)
	}
}

// A candidate that has failed still answers the requests that it has begun. If the old process dies before they are answered,
// the candidate starts a new process.
func TestCandidateThatFailedSurvivesTheOldProcess(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, staying)
	candidate, done := r.Soaking()
	begun, other := r.DialTo("g2").Begin(), r.DialTo("g2")
	_ = syscall.Kill(candidate, syscall.SIGTERM)
	other.WaitEnding() // the candidate has failed
	r.Kill()
	<-done
	begun.Finish()
	r.WaitServing(2, candidate)
	r.WaitFamily(t, 1, patience)
}

// A service that was told to stop stays down. A candidate that was taken back before the stop does not start a new process,
// not even if the old process is killed.
func TestAbortThenTermThenKillStaysDown(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, staying)
	_, done := r.Soaking()
	begun, other := r.DialTo("g2").Begin(), r.DialTo("g2")
	r.Ask("POST", "/abort")
	other.WaitEnding() // the candidate is taken back
	other = r.DialTo("g1")
	var last []*testclient.Peer
	for range 5 {
		last = append(last, r.DialTo("g1").Begin())
	}
	r.SignalMain(syscall.SIGTERM)
	other.WaitEnding() // the signal was noticed
	for _, p := range last {
		p.Finish() // now the goroutines that the signal has woken have run
	}
	r.Kill()
	<-done
	begun.Finish()
	r.WaitFamily(t, 0, patience)
}

// A candidate that was taken back finishes a request. If the old process dies at this time, the candidate starts a new
// process, although a still older generation drains. No request is lost.
func TestRevivedCandidateKnowsTheOlderOnes(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.NoMove = true })
	first := r.Dial().Begin()
	r.Change(staying) // for the second generation
	r.Upgrade()
	r.Change(func(s *plan.Settings) { s.Soak = 50 * time.Millisecond })
	candidate, done := r.Soaking()
	held, other := r.DialTo("g3").Begin(), r.DialTo("g3")
	old := r.MainPID()
	r.Ask("POST", "/abort")
	other.WaitEnding()
	_ = syscall.Kill(old, syscall.SIGKILL)
	<-done
	r.WaitServing(3, candidate)
	held.Finish()
	first.Finish()
	r.Upgrade()
	r.WaitFamily(t, 1, patience)
}

// If the old process dies while an aborted candidate finishes a request, the candidate starts the committed build: the build of
// the old process. It starts neither its own build, if this is another build, nor the file, which may have been replaced. The
// new process must not roll back to the aborted build.
func TestRevivalStartsTheCommittedBuild(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bad      string // the build of the candidate
		previous bool   // the new process knows a build for a rollback
	}{
		"another build": {"bad", false},
		"same build":    {"good", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.NoMove = true })
			r.Release("good")
			r.Change(func(s *plan.Settings) { s.Soak = time.Minute }) // for the second generation
			r.Upgrade()
			r.Release(c.bad)
			candidate, done := r.Soaking()
			held, other := r.DialTo("g3").Begin(), r.DialTo("g3")
			old := r.MainPID()
			r.Ask("POST", "/abort")
			other.WaitEnding()
			r.Release("worse") // this also replaces the file
			_ = syscall.Kill(old, syscall.SIGKILL)
			<-done
			r.WaitServing(3, candidate)
			held.Finish()
			r.MustRun("good")
			if known := r.Status().Previous != nil; known != c.previous {
				t.Errorf("a build for a rollback is known: %v", known)
			}
			r.UpgradeNow()
			r.MustRun("worse")
			r.Rollback()
			r.MustRun("good")
			r.WaitFamily(t, 1, patience)
		})
	}
}

// An abort takes the upgrade back at once, whether an operator aborts or the context of Upgrade ends.
func TestAbortTakesTheUpgradeBack(t *testing.T) {
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak = time.Minute })
	l := r.Load(smallLoad)
	for _, how := range []string{"by hand", "context canceled"} {
		ctx, cancel := context.WithCancel(t.Context())
		path := "/upgrade"
		if how != "by hand" {
			path = "/upgrade-while-connected"
		}
		done := r.Begin(ctx, path)
		r.WaitPhase("soak")
		if how == "by hand" {
			r.Ask("POST", "/abort")
		} else {
			cancel()
		}
		if a := <-done; how == "by hand" && (!a.Is(upgrade.ErrAborted) || a.Phase != "soak" || !strings.Contains(a.Reason, how)) {
			t.Fatalf("aborted upgrade: %+v", a)
		}
		cancel()
		r.WaitFamily(t, 1, patience)
		testutil.Until(t, 10*time.Second, "the outcome is known: "+how, func() bool {
			last := r.Status().Last
			return last != nil && !last.Committed && strings.Contains(last.Reason, how)
		})
	}
	r.UpgradeNow()
	r.Account(l).MustBeClean(t)
}
