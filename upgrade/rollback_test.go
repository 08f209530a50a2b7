//go:build linux

package upgrade_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// A rollback starts the build that was committed before, even if its file has been replaced or removed. A second rollback goes
// forward again. No request is lost, and kept values stay.
func TestRollbackGoesBackAndForthUnderLoad(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	l := r.Load(smallLoad)
	r.Release("good")
	r.Upgrade()
	good := arguments(t, r)
	r.Release("bad") // this also replaces the file of the good build
	r.Upgrade()
	r.MustRun("bad")
	exe := filepath.Join(r.Dir, "exe")
	for n := range 20 {
		switch n % 4 {
		case 0:
			write(t, r, exe, "#!/bin/false\n")
		case 1:
			remove(t, r, exe)
		}
		r.Rollback()
		want := []string{"good", "bad"}[n%2]
		r.MustRun(want)
		if now := arguments(t, r); !slices.Equal(now, good) {
			t.Fatalf("after rollback %d the arguments are %q, were %q", n+1, now, good)
		}
	}
	if st := r.Status(); st.Generation != 23 || st.Previous == nil {
		t.Errorf("after 2 upgrades and 20 rollbacks the status is %+v", st)
	}
	testutil.Until(t, patience, "the last generation answers", func() bool { return l.Seen("g23") })
	a := r.Account(l)
	t.Log(a)
	a.MustBeClean(t)
	r.WaitFamily(t, 1, patience)
}

func write(t *testing.T, r *testclient.Service, path, content string) {
	t.Helper()
	remove(t, r, path)
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, r *testclient.Service, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// arguments returns the arguments of the main process.
func arguments(t *testing.T, r *testclient.Service) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", r.MainPID()))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(b), "\x00")
}

// After a restart of the bad build, a rollback still goes back to the good build.
func TestRestartKeepsTheWayBack(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	r.Release("good")
	r.Upgrade()
	r.Release("bad")
	r.Upgrade()
	for range 2 {
		r.Upgrade() // the file is unchanged
	}
	r.Release("bad") // the same build in another file
	r.Upgrade()
	r.Rollback()
	r.MustRun("good")
}

// A process that was started from a descriptor has its program's name, so that pgrep and ps find it.
func TestRollbackKeepsTheName(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	name := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", r.MainPID()))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	r.Release("good")
	r.Upgrade()
	want := name()
	r.Release("bad")
	r.Upgrade()
	r.Rollback()
	if got := name(); got != want {
		t.Errorf("the process is called %q, want %q", got, want)
	}
}

// A rollback does not call the judges of the bad build, and does not soak.
func TestRollbackAsksNoJudge(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bake, s.Smoke = plan.BakePasses, plan.SmokePasses })
	r.Release("bad")
	r.Upgrade()
	r.Change(func(s *plan.Settings) { s.Bake, s.Smoke, s.Soak = plan.BakeFails, plan.SmokeFails, time.Hour })
	r.MustFail("smoke", "smoke test")
	r.Rollback()
}

// A rollback is refused if there is no earlier build: in the first generation, and in a generation whose old process did not
// use this package.
func TestRollbackWithoutAnEarlierBuildIsRefused(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	if a := r.Ask("POST", "/rollback"); !a.Is(upgrade.ErrNotReady) || !strings.Contains(a.Error, "no earlier build") {
		t.Errorf("rollback of the first generation: %+v", a)
	}
	plain := testclient.Start(t, func(s *plan.Settings) { s.Plain = true })
	plain.Change(func(s *plan.Settings) { s.Plain = false })
	plain.SignalMain(syscall.SIGHUP)
	testutil.Until(t, patience, "the library serves", func() bool {
		a, err := plain.TryAsk(t.Context(), "GET", "/status")
		return err == nil && a.Status.State == "serving"
	})
	if a := plain.Ask("POST", "/rollback"); !a.Is(upgrade.ErrNotReady) {
		t.Errorf("rollback to tableflip: %+v", a)
	}
}

// After a failed rollback the present process serves on, and the rollback may be tried again.
func TestFailedRollbackLeavesWhatRuns(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	l := r.Load(smallLoad)
	r.Release("good")
	r.Upgrade()
	r.Release("bad")
	r.Upgrade()
	r.Change(func(s *plan.Settings) { s.Bad = plan.RefuseValue })
	if a := r.Ask("POST", "/rollback"); a.Committed || a.Phase != "check" || !strings.Contains(a.Reason, `keep "value" refuses`) {
		t.Errorf("rollback to a build that cannot read what is kept: %+v", a)
	}
	r.MustRun("bad")
	r.Change(func(s *plan.Settings) { s.Bad = "" })
	r.Rollback()
	r.MustRun("good")
	r.Account(l).MustBeClean(t)
}
