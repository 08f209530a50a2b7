//go:build linux

package upgrade_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

var (
	chain = flag.Int("midair.chain", 50, "how many upgrades TestUpgradesDoNotWaitForSlowRequests makes")
	hold  = flag.Duration("midair.hold", 0, "how long the request of TestUpgradesDoNotWaitForSlowRequests takes at least")
)

// No upgrade waits for a request of an older generation, and the request is answered in the end.
func TestUpgradesDoNotWaitForSlowRequests(t *testing.T) {
	r := startService(t, func(s *settings) { s.Soak = 10 * time.Millisecond })
	l := r.load(smallLoad)
	held, began := r.dial().begin(), time.Now()
	for range *chain {
		r.upgrade()
	}
	took := time.Since(began)
	last := fmt.Sprint("g", *chain+1)
	testutil.Until(t, patience, "the last generation answers", func() bool { return l.Seen(last) })
	if d := r.draining(); len(d) == 0 || d[0].Generation != 1 || d[0].PID != r.PID() {
		t.Errorf("draining are %+v, want the first generation among them", d)
	}
	time.Sleep(max(0, *hold-took)) // the request's own length
	held.finish()
	if held.by != "g1" {
		t.Errorf("%s has answered the request that g1 had begun", held.by)
	}
	t.Logf("%d upgrades in %v, a request of %v", *chain, took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	r.account(l).MustBeClean(t)
	r.WaitFamily(t, 1, patience)
	if d := r.draining(); len(d) > 0 {
		t.Errorf("%+v are listed although they have ended", d)
	}
}

// draining are the older generations that the main one knows of.
func (r *running) draining() []upgrade.Process {
	r.t.Helper()
	return r.ask("GET", "/status").Status.Draining
}

// idle opens a connection that the generation answers on and that is idle then.
func (r *running) idle(generation int) *peer {
	r.t.Helper()
	p := r.dial()
	if want := fmt.Sprint("g", generation); p.by != want {
		r.t.Fatalf("%s answers, want %s", p.by, want)
	}
	return p
}

// When there are too many generations the oldest closes what is idle; what is active keeps its time. It does not matter
// that the generation which replaced the oldest has gone by then.
func TestTooManyGenerationsHurryTheOldest(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.MaxGenerations, s.IdleGrace, s.NoMove = 3, time.Hour, true })
	held1, idle1 := r.dial().begin(), r.idle(1)
	r.upgrade()
	r.upgrade() // the second generation has no reason to stay
	r.waitDraining(1)
	held3 := r.dial().begin()
	idle3 := r.idle(3)
	if !idle1.open() {
		t.Fatal("an idle connection of the first generation was closed although there are three generations at most")
	}
	r.upgrade()
	r.waitDraining(1, 3)
	if !idle1.open() {
		t.Fatal("an idle connection of the first generation was closed although there are three generations at most")
	}
	r.upgrade() // the fourth is still there at that moment: four in all
	testutil.Until(t, patience, "the first generation closes what is idle", func() bool { return !idle1.open() })
	if !idle3.open() {
		t.Error("an idle connection of a generation that is not the oldest was closed")
	}
	if d := r.draining(); !slices.ContainsFunc(d, func(p upgrade.Process) bool { return p.Generation == 1 && p.Hurried }) {
		t.Errorf("the status does not tell who was hurried: %+v", d)
	}
	held1.finish()
	held3.finish()
	if held1.by != "g1" || held3.by != "g3" {
		t.Errorf("%s and %s have answered, want g1 and g3", held1.by, held3.by)
	}
	idle3.c.Close()
	r.WaitFamily(t, 1, patience)
}

// waitDraining waits until exactly these generations drain.
func (r *running) waitDraining(generations ...int) {
	r.t.Helper()
	testutil.Until(r.t, patience, fmt.Sprint("generations drain: ", generations), func() bool {
		var now []int
		for _, p := range r.draining() {
			now = append(now, p.Generation)
		}
		return slices.Equal(now, generations)
	})
}

// A candidate that is taken back or killed leaves the hold on older generations where it was.
func TestFailedUpgradeKeepsTheHoldOnOlderGenerations(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.MaxGenerations, s.IdleGrace, s.NoMove = 2, time.Hour, true })
	held1, idle1 := r.dial().begin(), r.idle(1)
	r.upgrade()
	r.change(func(s *settings) { s.Bad = "refuse-commit" }) // it has got the sockets by then
	r.mustFailLate("commit", "not in this shape")
	r.waitDraining(1)
	if !idle1.open() {
		t.Fatal("a failed upgrade counts as a generation")
	}
	r.change(func(s *settings) { s.Bad = "" })
	r.upgrade()
	testutil.Until(t, patience, "the first generation closes what is idle", func() bool { return !idle1.open() })
	held1.finish()
	r.WaitFamily(t, 1, patience)
}

// mustFailLate is mustFail while older generations drain.
func (r *running) mustFailLate(phase, reason string) {
	r.t.Helper()
	if a := r.ask("POST", "/upgrade"); a.Committed || a.Phase != phase {
		r.t.Fatalf("upgrade: %+v, want phase %s and %q", a, phase, reason)
	}
}

// With three generations alive a candidate or the main process may be killed at any step: the survivor serves, and the
// older generation answers what it had begun.
func TestDeathsWithThreeGenerationsAlive(t *testing.T) {
	for _, step := range []string{
		"new.hello", "new.welcomed", "new.prepared", "new.opened", "new.commit", "new.ready",
		"old.started", "old.welcomed", "old.prepared", "old.opened", "old.commit", "old.committed", "old.handed-over",
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f, begin := faultLater(t, step, "kill")
			// An idle connection that has moved dies with the process that has it, so none moves here.
			r := startService(t, func(s *settings) { s.MaxGenerations, s.NoMove = 2, true }, f.env)
			l := r.load(smallLoad)
			held := r.dial().begin()
			r.upgrade()
			r.waitDraining(1)
			begin()
			a, err := r.tryAsk(t.Context(), "POST", "/upgrade")
			if err == nil && a.Committed { // no answer: the main process has died
				t.Fatalf("the upgrade was committed although its process died: %+v", a)
			}
			testutil.Until(t, patience, "another process serves", func() bool { return r.servesWithout(r.faulted()) })
			r.upgrade()
			want := fmt.Sprint("g", r.ask("GET", "/status").Status.Generation)
			testutil.Until(t, patience, want+" answers", func() bool { return l.Seen(want) })
			held.finish()
			if held.by != "g1" {
				t.Errorf("%s has answered what g1 had begun", held.by)
			}
			r.mustHaveLostOnlyWith(l, f)
			r.WaitFamily(t, 1, patience)
		})
	}
}

// servesWithout tells whether a process other than this one is named by the pid file and serves.
func (r *running) servesWithout(pid int) bool {
	if now := r.mainPID(); now == 0 || now == pid {
		return false
	}
	a, err := r.tryAsk(context.Background(), "GET", "/status")
	return err == nil && a.Status.State == "serving" && a.Status.PID == r.mainPID()
}

// A generation that drains survives the death of every younger one, and answers what it has begun.
func TestDrainingGenerationSurvivesTheOthers(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	held := r.dial().begin()
	r.upgrade()
	r.upgrade()
	r.waitDraining(1)
	_ = syscall.Kill(r.mainPID(), syscall.SIGKILL)
	held.finish()
	if _, err := io.Copy(io.Discard, held.c); err == nil && held.by != "g1" {
		t.Errorf("%s has answered what g1 had begun", held.by)
	}
	r.WaitFamily(t, 0, patience)
}

// Upgrades that do not wait for older generations to end lose nothing that those have begun.
func TestChainOfUpgradesWhileOldOnesDrain(t *testing.T) {
	t.Parallel()
	const upgrades = 5
	r := startService(t, nil)
	l := r.load(smallLoad)
	begun := []*peer{r.connect("g1").begin()}
	for n := range upgrades {
		r.upgrade()
		begun = append(begun, r.connect(fmt.Sprint("g", n+2)).begin())
	}
	r.WaitFamily(t, upgrades+1, patience)
	for _, p := range begun {
		p.finish()
	}
	r.WaitFamily(t, 1, patience)
	r.account(l).MustBeClean(t)
}
