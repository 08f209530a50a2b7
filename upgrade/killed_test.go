//go:build linux

package upgrade_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// If a candidate is killed at any step before it has confirmed the commit, the old process serves on. Only requests that the
// dead candidate had received are lost.
func TestCandidateMayDieAtAnyStep(t *testing.T) {
	for _, step := range []string{
		"new.start", "new.hello", "new.welcomed", "new.prepare", "new.prepared", "new.opened", "new.commit", "new.write",
		"new.ready", // right after the Ready byte
	} {
		for _, action := range []string{"kill", "exit:3", "panic"} {
			t.Run(step+" "+action, func(t *testing.T) {
				testutil.Sample(t)
				t.Parallel()
				f := testclient.FaultAt(t, step, action)
				r := testclient.Start(t, nil, f.Env)
				l := r.Load(smallLoad)
				a := r.Ask("POST", "/upgrade")
				if a.Committed || a.Reason == "" {
					t.Fatalf("the upgrade was committed although its process died: %+v", a)
				}
				t.Logf("%s: %s", a.Phase, a.Reason)
				r.MustRecover(l, 1)
				r.MustHaveLostOnlyWith(l, f)
			})
		}
	}
}

// A candidate that hangs is killed when its time is over, and does not delay requests until then.
func TestCandidateMayHangAtAnyStep(t *testing.T) {
	for _, step := range []string{"new.start", "new.hello", "new.welcomed", "new.prepare", "new.opened", "new.commit", "new.ready", "new.write"} {
		t.Run(step, func(t *testing.T) {
			testutil.Sample(t)
			t.Parallel()
			change := func(s *plan.Settings) { s.Timeout, s.AbortGrace = 2*time.Second, time.Second }
			f := testclient.FaultAt(t, step, "stop")
			r := testclient.Start(t, change, f.Env)
			l := r.Load(smallLoad)
			a := r.Ask("POST", "/upgrade")
			if a.Committed {
				t.Fatalf("the upgrade was committed although its process hangs: %+v", a)
			}
			t.Logf("%s: %s", a.Phase, a.Reason)
			r.MustRecover(l, 1)
			r.MustHaveLostOnlyWith(l, f)
		})
	}
}

// If the old process is killed at any step after it has started a new process, the new process becomes the service.
func TestOldProcessMayDieAtAnyStep(t *testing.T) {
	for _, step := range []string{
		"old.forked", "old.started", "old.hello", "old.welcomed", "old.bequeathed", "old.prepared", "old.opened", "old.commit", "old.committed",
		"old.handed-over",
	} {
		t.Run(step, func(t *testing.T) {
			testutil.Sample(t)
			t.Parallel()
			f := testclient.FaultAt(t, step, "kill")
			r := testclient.Start(t, nil, f.Env)
			l := r.Load(smallLoad)
			if a, err := r.TryAsk(context.Background(), "POST", "/upgrade"); err == nil {
				t.Fatalf("the old process answered: %+v", a)
			}
			mustBeTakenOver(t, r, l, f)
		})
	}
}

// mustBeTakenOver waits for a successor of the killed process, and upgrades it.
func mustBeTakenOver(t *testing.T, r *testclient.Service, l *testutil.Load, f testclient.Fault) {
	t.Helper()
	dead := r.Faulted()
	testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(dead) })
	r.WaitFamily(t, 1, patience)
	r.MustRecover(l, r.Status().Generation)
	r.MustHaveLostOnlyWith(l, f)
}

// If the old process dies while it takes the upgrade back, a process serves: the candidate becomes the service, or starts a
// new process if its server has ended.
func TestOldProcessMayDieWhileItTakesBack(t *testing.T) {
	for _, step := range []string{"old.taking-back", "old.aborted", "old.returned"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, step, "kill")
			// An idle connection that has moved back dies with the old process, so none moves here.
			r := testclient.Start(t, staying, f.Env)
			l := r.Load(smallLoad)
			gone := r.BeginUpgrade() // the answer dies with the process
			testutil.Until(t, patience, "both accept", func() bool { return l.Seen("g2") })
			_, _ = r.TryAsk(context.Background(), "POST", "/abort")
			<-gone
			mustBeTakenOver(t, r, l, f)
		})
	}
}

// If the old process is suspended for a moment, the upgrade takes longer, and no request is lost.
func TestOldProcessMayHangAtAnyStep(t *testing.T) {
	for _, step := range []string{"old.started", "old.hello", "old.welcomed", "old.bequeathed", "old.prepared", "old.opened", "old.commit", "old.committed", "old.handed-over"} {
		t.Run(step, func(t *testing.T) {
			testutil.Sample(t)
			t.Parallel()
			f := testclient.FaultAt(t, step, "stop")
			r := testclient.Start(t, nil, f.Env)
			l := r.Load(smallLoad)
			done := r.BeginUpgrade()
			testutil.Until(t, patience, "the old process is stopped", r.Frozen)
			answered := l.Total()
			time.AfterFunc(200*time.Millisecond, func() { _ = syscall.Kill(r.Faulted(), syscall.SIGCONT) })
			testutil.Until(t, patience, "requests are answered again", func() bool { return l.Total() > answered+50 })
			if a := <-done; !a.Committed {
				t.Fatalf("upgrade: %+v", a)
			}
			testutil.Until(t, patience, "the new process answers", func() bool { return l.Seen("g2") })
			r.WaitFamily(t, 1, 30*time.Second)
			r.Account(l).MustBeClean(t)
		})
	}
}
