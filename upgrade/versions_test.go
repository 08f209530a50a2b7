//go:build linux

package upgrade_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// An old build that does not take its listening sockets from the control socket is refused, with and without the supervisor.
// The error tells the reason, and the service goes on.
func TestBuildFromBeforeIsRefused(t *testing.T) {
	for supervisor, low := range map[string]int{"never": 1, "always": 3} {
		t.Run(supervisor, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor = supervisor })
			l := r.Load(smallLoad)
			r.Change(func(s *plan.Settings) { s.Meddling = plan.Meddling{Do: plan.Speaks, Low: low, High: 3} })
			a := r.Ask("POST", "/upgrade")
			if a.Committed || a.Phase != "start" || !strings.Contains(a.Reason, "of the control protocol, this process 4 to 4: ") || !strings.Contains(a.Reason, "stop the service and start it") {
				t.Errorf("upgrade: %+v", a)
			}
			r.Change(func(s *plan.Settings) { s.Meddling = plan.Meddling{} })
			r.Upgrade()
			r.Account(l).MustBeClean(t)
		})
	}
}

// Unknown versions, fields and messages of a later protocol do no harm, neither in the old process nor in the new process.
func TestPeerFromTheFutureIsUnderstood(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	l := r.Load(smallLoad)
	r.Change(func(s *plan.Settings) { s.Meddling.Do = plan.Future })
	for n := range 3 {
		r.Release(fmt.Sprint("another", n))
		r.Upgrade()
	}
	r.Change(func(s *plan.Settings) { s.Bad = plan.CheckFails })
	r.WaitServing(4, 0)
	r.MustFail("check", "the database is not there")
	if st := r.Status(); st.Previous == nil {
		t.Error("nothing is known of the earlier build")
	}
	r.MustRecover(l, 4)
	r.Account(l).MustBeClean(t)
}

// Two processes without a common version of the protocol cannot work together. The process that notices this reports what to
// do, and the old process serves on.
func TestForeignProtocolIsRefused(t *testing.T) {
	for _, c := range []struct {
		name          string
		meddling      plan.Meddling
		phase, reason string
	}{
		{"newer candidate", plan.Meddling{Do: plan.Speaks, Low: 5, High: 9}, "start", "versions 5 to 9 of the control protocol, this process 4 to 4: upgrade to a release in between first"},
		{"no candidate", plan.Meddling{Do: plan.Speaks, Low: 0, High: 0}, "start", "versions 0 to 0 of the control protocol"},
		{"newer old process", plan.Meddling{Do: plan.Refuses, Reason: "it is too old"}, "start", "it is too old"},
		{"older old process", plan.Meddling{Do: plan.Chooses, Low: 0}, "start", "the old process: it speaks versions 0 to 0 of the control protocol"},
		{"old process that insists", plan.Meddling{Do: plan.Chooses, Low: 5}, "start", "the old process: it speaks versions 5 to 5 of the control protocol, this process 4 to 4: upgrade to a release in between first"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, nil)
			l := r.Load(smallLoad)
			r.Change(func(s *plan.Settings) { s.Meddling = c.meddling })
			r.MustFail(c.phase, c.reason)
			r.Change(func(s *plan.Settings) { s.Meddling = plan.Meddling{} })
			r.MustRecover(l, 1)
			r.Account(l).MustBeClean(t)
		})
	}
}

// rubbish sends rubbish in place of the message of a kind, and retort sends rubbish after this message.
func rubbish(kind string) plan.Meddling { return plan.Meddling{Do: plan.Rubbish, Kind: kind} }
func retort(kind string) plan.Meddling  { return plan.Meddling{Do: plan.Retort, Kind: kind} }

const noFrame = "what came on the control socket is not a frame"

// A process that sends rubbish before the commit is treated as a dead process, in every phase and on both sides. The old
// process serves on at once.
func TestRubbishBeforeTheCommitEndsTheUpgrade(t *testing.T) {
	for _, c := range []struct {
		meddling plan.Meddling
		phase    string
	}{
		{rubbish("listeners"), "start"},
		{retort("listeners"), ""},
		{rubbish("hello"), "start"},
		{retort("hello"), ""}, // the phase in which the rubbish is noticed may differ
		{rubbish("welcome"), "start"},
		{rubbish("prepared"), "check"},
		{retort("prepared"), ""},
		{rubbish("open"), "check"},
		{retort("open"), "soak"},
		{rubbish("previous"), "check"},
		{retort("previous"), ""},
		{rubbish("commit"), "soak"},
	} {
		t.Run(c.meddling.String(), func(t *testing.T) {
			testutil.Sample(t)
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Timeout, s.Soak = 10*time.Second, 200*time.Millisecond })
			l := r.Load(smallLoad)
			r.Change(func(s *plan.Settings) { s.Meddling = c.meddling })
			r.Release("another") // so that the old process has an earlier build to send
			began := time.Now()
			a := r.Ask("POST", "/upgrade")
			if a.Committed || c.phase != "" && a.Phase != c.phase || !strings.Contains(a.Reason, noFrame) {
				t.Errorf("upgrade: committed %v, %s: %s", a.Committed, a.Phase, a.Reason)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("noticed after %v", took)
			}
			r.WaitFamily(t, 1, patience)
			r.Change(func(s *plan.Settings) { s.Meddling = plan.Meddling{} })
			r.MustRecover(l, 1)
			r.Account(l).MustBeClean(t)
		})
	}
}

// Rubbish in place of the message serving makes the commit fail. Rubbish after this message has no effect.
func TestRubbishAroundTheCommit(t *testing.T) {
	for _, c := range []struct {
		meddling  plan.Meddling
		committed bool
	}{
		{rubbish("serving"), false}, {retort("serving"), true}, {retort("commit"), true},
	} {
		t.Run(c.meddling.String(), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, nil)
			r.Change(func(s *plan.Settings) { s.Meddling = c.meddling })
			a := r.Ask("POST", "/upgrade")
			if a.Committed != c.committed || !a.Committed && (a.Phase != "commit" || !strings.Contains(a.Reason, noFrame)) {
				t.Errorf("upgrade: committed %v, %s: %s", a.Committed, a.Phase, a.Reason)
			}
			r.WaitFamily(t, 1, patience)
			r.Change(func(s *plan.Settings) { s.Meddling = plan.Meddling{} })
			r.Upgrade()
		})
	}
}

// Rubbish that comes while an upgrade is taken back does not make this take longer than AbortGrace.
func TestRubbishWhileTakingBack(t *testing.T) {
	for _, meddling := range []plan.Meddling{rubbish("abort"), rubbish("returned"), rubbish("released"), retort("returned")} {
		t.Run(meddling.String(), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Soak, s.AbortGrace = time.Minute, 2*time.Second })
			l := r.Load(smallLoad)
			r.Change(func(s *plan.Settings) { s.Meddling = meddling })
			_, done := r.Soaking()
			r.Ask("POST", "/abort")
			if a := <-done; !a.Is(upgrade.ErrAborted) {
				t.Errorf("upgrade: %+v", a)
			}
			r.WaitFamily(t, 1, patience)
			r.Change(func(s *plan.Settings) { s.Meddling = plan.Meddling{} })
			r.MustRecover(l, 1)
			r.Account(l).MustBeClean(t)
		})
	}
}
