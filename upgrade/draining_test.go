//go:build linux

package upgrade_test

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

var (
	chain = flag.Int("midair.chain", 50, "how many upgrades TestUpgradesDoNotWaitForSlowRequests makes")
	hold  = flag.Duration("midair.hold", 0, "how long the request of TestUpgradesDoNotWaitForSlowRequests takes at least")
)

// No upgrade waits for a request of an older generation, and the request is answered in the end.
func TestUpgradesDoNotWaitForSlowRequests(t *testing.T) {
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak = 10 * time.Millisecond })
	l := r.Load(smallLoad)
	held, began := r.Dial().Begin(), time.Now()
	for range *chain {
		r.Upgrade()
	}
	took := time.Since(began)
	last := fmt.Sprint("g", *chain+1)
	testutil.Until(t, patience, "the last generation answers", func() bool { return l.Seen(last) })
	if d := draining(t, r); len(d) == 0 || d[0].Generation != 1 || d[0].PID != r.PID() {
		t.Errorf("draining are %+v, want the first generation among them", d)
	}
	time.Sleep(max(0, *hold-took)) // the request's own length
	held.Finish()
	if held.By != "g1" {
		t.Errorf("%s has answered the request that g1 had begun", held.By)
	}
	t.Logf("%d upgrades in %v, a request of %v", *chain, took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	r.Account(l).MustBeClean(t)
	r.WaitFamily(t, 1, patience)
	if d := draining(t, r); len(d) > 0 {
		t.Errorf("%+v are listed although they have ended", d)
	}
}

// draining returns the older generations that the main generation lists in Status.
func draining(t *testing.T, r *testclient.Service) []upgrade.Process {
	t.Helper()
	return r.Status().Draining
}

// idle opens a connection to the generation. When idle returns, a request was answered, and the connection is idle.
func idle(t *testing.T, r *testclient.Service, generation int) *testclient.Peer {
	t.Helper()
	p := r.Dial()
	if want := fmt.Sprint("g", generation); p.By != want {
		t.Fatalf("%s answers, want %s", p.By, want)
	}
	return p
}

// If there are too many generations, the oldest generation closes its idle connections. Its requests keep their time. This
// also works if the generation that replaced the oldest has ended.
func TestTooManyGenerationsHurryTheOldest(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.MaxGenerations, s.IdleGrace, s.NoMove = 3, time.Hour, true })
	held1, idle1 := r.Dial().Begin(), idle(t, r, 1)
	r.Upgrade()
	r.Upgrade() // the second generation has no connections, and ends
	waitDraining(t, r, 1)
	held3 := r.Dial().Begin()
	idle3 := idle(t, r, 3)
	if !idle1.Open() {
		t.Fatal("an idle connection of the first generation was closed although there are three generations at most")
	}
	r.Upgrade()
	waitDraining(t, r, 1, 3)
	if !idle1.Open() {
		t.Fatal("an idle connection of the first generation was closed although there are three generations at most")
	}
	r.Upgrade() // the fourth generation still runs at that moment: there are four generations
	testutil.Until(t, patience, "the first generation closes what is idle", func() bool { return !idle1.Open() })
	if !idle3.Open() {
		t.Error("an idle connection of a generation that is not the oldest was closed")
	}
	if d := draining(t, r); !slices.ContainsFunc(d, func(p upgrade.Process) bool { return p.Generation == 1 && p.Hurried }) {
		t.Errorf("the status does not tell who was hurried: %+v", d)
	}
	held1.Finish()
	held3.Finish()
	if held1.By != "g1" || held3.By != "g3" {
		t.Errorf("%s and %s have answered, want g1 and g3", held1.By, held3.By)
	}
	idle3.Close()
	r.WaitFamily(t, 1, patience)
}

// If MaxGenerations is 1, the process that has just been replaced has to close its idle connections, too.
func TestOnlyOneGenerationHurriesTheReplaced(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.MaxGenerations, s.IdleGrace, s.NoMove = 1, time.Hour, true })
	held1, idle1 := r.Dial().Begin(), idle(t, r, 1)
	r.Upgrade()
	testutil.Until(t, patience, "the first generation closes what is idle", func() bool { return !idle1.Open() })
	held1.Finish()
	if held1.By != "g1" {
		t.Errorf("%s has answered, want g1", held1.By)
	}
	r.WaitFamily(t, 1, patience)
}

// waitDraining waits until exactly these generations drain.
func waitDraining(t *testing.T, r *testclient.Service, generations ...int) {
	t.Helper()
	testutil.Until(t, patience, fmt.Sprint("generations drain: ", generations), func() bool {
		var now []int
		for _, p := range draining(t, r) {
			now = append(now, p.Generation)
		}
		return slices.Equal(now, generations)
	})
}

// If a candidate is taken back, the old process still has the control sockets to older generations.
func TestFailedUpgradeKeepsTheHoldOnOlderGenerations(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.MaxGenerations, s.IdleGrace, s.NoMove = 2, time.Hour, true })
	held1, idle1 := r.Dial().Begin(), idle(t, r, 1)
	r.Upgrade()
	r.Change(func(s *plan.Settings) { s.Bad = plan.RefuseValueAtCommit }) // sockets are passed before the commit
	mustFailLate(t, r, "commit", "not in this shape")
	waitDraining(t, r, 1)
	if !idle1.Open() {
		t.Fatal("a failed upgrade counts as a generation")
	}
	r.Change(func(s *plan.Settings) { s.Bad = "" })
	r.Upgrade()
	testutil.Until(t, patience, "the first generation closes what is idle", func() bool { return !idle1.Open() })
	held1.Finish()
	r.WaitFamily(t, 1, patience)
}

// mustFailLate does the same as MustFail, while older generations drain.
func mustFailLate(t *testing.T, r *testclient.Service, phase, reason string) {
	t.Helper()
	if a := r.Ask("POST", "/upgrade"); a.Committed || a.Phase != phase {
		t.Fatalf("upgrade: %+v, want phase %s and %q", a, phase, reason)
	}
}

// While three generations run, the candidate or the main process may be killed at any step. The survivor serves, and the older
// generation answers the requests that it has begun.
func TestDeathsWithThreeGenerationsAlive(t *testing.T) {
	for _, step := range []string{
		"new.hello", "new.welcomed", "new.prepared", "new.opened", "new.commit", "new.ready",
		"old.started", "old.welcomed", "old.prepared", "old.opened", "old.commit", "old.committed", "old.handed-over",
	} {
		t.Run(step, func(t *testing.T) {
			testutil.Sample(t)
			t.Parallel()
			f, begin := testclient.FaultLater(t, step, "kill")
			// An idle connection that has moved dies with the process that has it, so none moves here.
			r := testclient.Start(t, func(s *plan.Settings) { s.MaxGenerations, s.NoMove = 2, true }, f.Env)
			l := r.Load(smallLoad)
			held := r.Dial().Begin()
			r.Upgrade()
			waitDraining(t, r, 1)
			begin()
			a, err := r.TryAsk(t.Context(), "POST", "/upgrade")
			if err == nil && a.Committed { // no answer: the main process has died
				t.Fatalf("the upgrade was committed although its process died: %+v", a)
			}
			testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(r.Faulted()) })
			r.Upgrade()
			want := fmt.Sprint("g", r.Status().Generation)
			testutil.Until(t, patience, want+" answers", func() bool { return l.Seen(want) })
			held.Finish()
			if held.By != "g1" {
				t.Errorf("%s has answered what g1 had begun", held.By)
			}
			r.MustHaveLostOnlyWith(l, f)
			r.WaitFamily(t, 1, patience)
		})
	}
}

// A generation that drains survives the death of every younger generation, and answers the requests that it has begun.
func TestDrainingGenerationSurvivesTheOthers(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	held := r.Dial().Begin()
	r.Upgrade()
	r.Upgrade()
	waitDraining(t, r, 1)
	_ = syscall.Kill(r.MainPID(), syscall.SIGKILL)
	held.Finish()
	if _, err := io.Copy(io.Discard, held); err == nil && held.By != "g1" {
		t.Errorf("%s has answered what g1 had begun", held.By)
	}
	r.WaitFamily(t, 0, patience)
}

// If upgrades do not wait for the end of older generations, no request that these generations have begun is lost.
func TestChainOfUpgradesWhileOldOnesDrain(t *testing.T) {
	t.Parallel()
	const upgrades = 5
	r := testclient.Start(t, nil)
	l := r.Load(smallLoad)
	begun := []*testclient.Peer{r.DialTo("g1").Begin()}
	for n := range upgrades {
		r.Upgrade()
		begun = append(begun, r.DialTo(fmt.Sprint("g", n+2)).Begin())
	}
	r.WaitFamily(t, upgrades+1, patience)
	for _, p := range begun {
		p.Finish()
	}
	r.WaitFamily(t, 1, patience)
	r.Account(l).MustBeClean(t)
}
