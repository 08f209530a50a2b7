//go:build linux

package upgrade_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

var rounds = flag.Int("midair.rounds", 50, "how many good and how many failed upgrades TestNothingAccumulates makes")

// After any number of good and of failed upgrades the process that serves has as many descriptors, goroutines and
// children as after the first few: nothing is handed on from generation to generation that nobody uses.
func TestNothingAccumulates(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Soak, s.Exclusive, s.Smoke = time.Millisecond, "background", "add" })
	l := r.load(smallLoad)
	builds := [2]string{filepath.Join(r.dir, "one"), filepath.Join(r.dir, "two")}
	for _, path := range builds {
		if err := copyBuild(testBinary(t), path, filepath.Base(path)); err != nil {
			t.Fatal(err)
		}
	}
	round := func(n int) {
		r.linkTo(builds[n%2])
		bad := []string{"start", "check", "refuse-always", "crash", "refuse-commit", "acquire", "listen", "serve"}[n%8]
		r.change(func(s *settings) { s.Bad = bad })
		if a := r.ask("POST", "/upgrade"); a.Committed {
			t.Fatalf("upgrade to one that fails by %s: %+v", bad, a)
		}
		r.change(func(s *settings) { s.Bad = "" })
		if n%4 == 3 {
			r.rollback()
			return
		}
		r.upgrade()
	}
	counts := func() answer {
		r.WaitFamily(t, 1, time.Minute)
		return r.ask("GET", "/status")
	}
	for n := range 8 {
		round(n)
	}
	a := r.account(l)
	a.MustBeClean(t)
	before := counts()
	for n := range *rounds {
		round(n)
	}
	var after answer
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
