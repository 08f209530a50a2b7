//go:build linux

package upgrade_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

var rounds = flag.Int("midair.rounds", 50, "how many good and how many failed upgrades TestNothingAccumulates makes")

// After any number of good and failed upgrades, the serving process has no more descriptors, goroutines and children than
// after the first few upgrades. So generations hand on nothing that is not used.
func TestNothingAccumulates(t *testing.T) {
	testutil.AlsoWithoutRace()
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) {
		s.Soak, s.Lock, s.Smoke = time.Millisecond, plan.LockBackground, plan.SmokeAdds
	})
	l := r.Load(smallLoad)
	builds := [2]string{filepath.Join(r.Dir, "one"), filepath.Join(r.Dir, "two")}
	for _, path := range builds {
		if err := plan.CopyBuild(testclient.Binary(t), path, filepath.Base(path)); err != nil {
			t.Fatal(err)
		}
	}
	round := func(n int) {
		r.LinkTo(builds[n%2])
		bad := []plan.Misbehaviour{plan.ExitAtStart, plan.CheckFails, plan.RefuseValue, plan.CheckCrashes,
			plan.RefuseValueAtCommit, plan.AcquireFails, plan.ListenFails, plan.ServeFails}[n%8]
		r.Change(func(s *plan.Settings) { s.Bad = bad })
		if a := r.Ask("POST", "/upgrade"); a.Committed {
			t.Fatalf("upgrade to one that fails by %s: %+v", bad, a)
		}
		r.Change(func(s *plan.Settings) { s.Bad = "" })
		if n%4 == 3 {
			r.Rollback()
			return
		}
		r.Upgrade()
	}
	counts := func() plan.Answer {
		r.WaitFamily(t, 1, time.Minute)
		return r.Ask("GET", "/status")
	}
	for n := range 8 {
		round(n)
	}
	a := r.Account(l)
	a.MustBeClean(t)
	before := counts()
	for n := range *rounds {
		round(n)
	}
	var after plan.Answer
	testutil.Until(t, patience, "the counts are as before", func() bool {
		after = counts()
		return after.FDs <= before.FDs && after.Goroutines <= before.Goroutines && after.Children == before.Children
	})
	if want := 8 + *rounds + 1; after.Status.Generation != want {
		t.Errorf("generation %d serves, want %d", after.Status.Generation, want)
	}
	t.Log(fmt.Sprintf("after %d good and %d failed upgrades:", *rounds, *rounds),
		"descriptors", before.FDs, "->", after.FDs, "goroutines", before.Goroutines, "->", after.Goroutines,
		"children", before.Children, "->", after.Children)
}
