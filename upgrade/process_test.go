//go:build linux

package upgrade_test

import (
	"context"
	"flag"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

var upgrades = flag.Int("midair.upgrades", 100, "how many upgrades TestUpgradeLosesNothingUnderLoad makes")

// No request is lost by an upgrade, and none is executed twice.
func TestUpgradeLosesNothingUnderLoad(t *testing.T) {
	testutil.AlsoWithoutRace()
	rounds := *upgrades
	if raceDetector() {
		rounds = min(rounds, 25)
	}
	r := testclient.Start(t, nil)
	l := r.Load(testutil.LoadOptions{KeepAlive: 32, New: 8, SlowEvery: 50})
	for range rounds {
		r.Upgrade()
	}
	last := fmt.Sprint("g", rounds+1)
	testutil.Until(t, patience, "the last generation answers", func() bool { return l.Seen(last) })
	a := r.Account(l)
	t.Logf("%d upgrades\n%s", rounds, a)
	a.MustBeClean(t)
	r.WaitFamily(t, 1, 30*time.Second)
}

// While an upgrade is under way, a second upgrade is refused, and Commit ends the soak of the first one early.
func TestSecondUpgradeIsRefusedMeanwhile(t *testing.T) {
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak = time.Minute })
	first := r.BeginUpgrade()
	r.WaitPhase("soak")
	if a := r.Ask("POST", "/upgrade"); !a.Is(upgrade.ErrInProgress) {
		t.Fatalf("second upgrade: %+v", a)
	}
	if a := r.Ask("POST", "/commit"); !a.Committed {
		t.Fatalf("commit: %+v", a)
	}
	if a := <-first; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	if a := r.Ask("POST", "/commit"); !a.Is(upgrade.ErrNotReady) {
		t.Fatalf("commit without an upgrade: %+v", a)
	}
	if a := r.Ask("POST", "/abort"); !a.Is(upgrade.ErrNotReady) {
		t.Fatalf("abort without an upgrade: %+v", a)
	}
}

// An upgrade works if the old or the new process uses tableflip only: they need not both use this library.
func TestPlainTableflipOnEitherSide(t *testing.T) {
	r := testclient.Start(t, func(s *plan.Settings) { anyFile(s); s.Plain = true })
	l := r.Load(smallLoad)

	r.Change(func(s *plan.Settings) { s.Plain = false })
	r.SignalMain(syscall.SIGHUP)
	testutil.Until(t, patience, "the library answers", func() bool { return l.Seen("g2") })
	r.WaitFamily(t, 1, 30*time.Second)
	if a := r.Account(l); a.Counts[testutil.Refused] > 0 || a.Counts[testutil.Twice] > 0 {
		t.Fatalf("tableflip's Shutdown may lose what it has accepted, but no more\n%s", a)
	}

	l = r.Load(smallLoad)
	r.Flip(true)
	r.Upgrade()
	testutil.Until(t, patience, "tableflip answers", func() bool { return l.Seen("plain") })
	r.WaitFamily(t, 1, 30*time.Second)
	r.Account(l).MustBeClean(t)

	r.Flip(false)
	plain, asked := r.MainPID(), time.Time{}
	testutil.Until(t, patience, "the library serves again", func() bool {
		if r.MainPID() == plain && time.Since(asked) > time.Second { // tableflip refuses until its parent has ended
			asked = time.Now()
			r.SignalMain(syscall.SIGHUP)
		}
		a, err := r.TryAsk(context.Background(), "GET", "/status")
		return err == nil && a.Status.State == "serving"
	})
	r.WaitFamily(t, 1, 30*time.Second)
	r.Upgrade()
}
