//go:build linux

package upgrade_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// movers are the ways in which a candidate leaves the process group that it was started in.
var movers = []plan.Misbehaviour{plan.JoinsOldGroup, plan.OwnSession, plan.LeavesHelper}

// frozenAt starts a service whose candidate leaves its process group and is suspended at the step. A suspended candidate
// notices neither SIGTERM nor a message. frozenAt returns when the candidate is suspended.
func frozenAt(t *testing.T, how plan.Misbehaviour, step string) (r *testclient.Service, done <-chan plan.Answer) {
	t.Helper()
	f := testclient.FaultAt(t, step, "stop")
	r = testclient.Start(t, func(s *plan.Settings) {
		if s.Timeout, s.AbortGrace = 2*time.Second, time.Second; step == "new.aborted" {
			s.Soak = time.Minute
		}
		s.Bad = how
	}, f.Env)
	if done = r.BeginUpgrade(); step == "new.aborted" {
		r.WaitPhase("soak")
		r.Ask("POST", "/abort")
	}
	testutil.Until(t, patience, "the candidate is stopped", r.Frozen)
	return r, done
}

var frozenSteps = []string{"new.start", "new.prepared", "new.opened", "new.aborted"}

// An attempt ends even if its candidate has left its process group and is suspended. The candidate is killed, and so are the
// processes that it has left in the group. The old process serves on and upgrades again.
func TestAttemptEndsWhereverTheCandidateIs(t *testing.T) {
	for _, how := range movers {
		for _, step := range frozenSteps {
			t.Run(fmt.Sprint(how, " ", step), func(t *testing.T) {
				testutil.Sample(t)
				t.Parallel()
				r, done := frozenAt(t, how, step)
				candidate := r.Faulted()
				select {
				case a := <-done:
					if a.Committed {
						t.Errorf("upgrade: %+v", a)
					}
				case <-time.After(patience):
					t.Fatal("the attempt does not end")
				}
				if !testclient.Gone(candidate) {
					t.Errorf("the candidate %d lives on", candidate)
				}
				r.WaitFamily(t, 1, patience)
				r.Change(func(s *plan.Settings) { s.Bad = "" })
				if step == "new.aborted" {
					r.UpgradeNow()
				} else {
					r.Upgrade()
				}
			})
		}
	}
}

// SIGTERM ends the service even if a candidate has left its process group and is suspended.
func TestTermEndsWhereverTheCandidateIs(t *testing.T) {
	for _, how := range movers {
		for _, step := range frozenSteps {
			t.Run(fmt.Sprint(how, " ", step), func(t *testing.T) {
				testutil.Sample(t)
				t.Parallel()
				r, _ := frozenAt(t, how, step)
				r.SignalMain(syscall.SIGTERM)
				r.WaitFamily(t, 0, patience)
			})
		}
	}
}

// SIGTERM ends the service, and an abort ends the attempt, even if the candidate in the soak is a program that has only sent
// the Ready byte, ignores SIGTERM, and has left its process group.
func TestPlainCandidateInTheSoakIsKilled(t *testing.T) {
	for _, how := range []string{"abort", "SIGTERM"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				anyFile(s)
				s.Soak, s.AbortGrace, s.Bad = time.Minute, time.Second, plan.OnlyReady
			})
			r.LinkTo(testclient.Unmarked(t))
			candidate, done := r.Soaking()
			if how == "SIGTERM" {
				r.SignalMain(syscall.SIGTERM)
				r.WaitFamily(t, 0, patience)
				return
			}
			r.Ask("POST", "/abort")
			if a := <-done; !a.Is(upgrade.ErrAborted) || !testclient.Gone(candidate) {
				t.Errorf("the candidate %d is gone: %v; upgrade: %+v", candidate, testclient.Gone(candidate), a)
			}
			r.Change(func(s *plan.Settings) { s.Bad = "" })
			r.UpgradeNow()
		})
	}
}

// If a helper outlives the candidate and holds the control socket and tableflip's pipes, the attempt still ends: it ends when
// the candidate dies.
func TestHelperOfADeadCandidateDelaysNothing(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.ExitsOfHelper })
	began := time.Now()
	a := r.Ask("POST", "/upgrade")
	if a.Committed || a.Phase != "start" || !strings.Contains(a.Reason, "exit status 7") || a.Is(upgrade.ErrAborted) {
		t.Errorf("upgrade: %+v", a)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, pid := range r.Family() {
		if pid != r.MainPID() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // the service does not end the helper, so the test does
		}
	}
	r.WaitFamily(t, 1, patience)
	r.Change(func(s *plan.Settings) { s.Bad = "" })
	r.Upgrade()
}
