//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// stagedFiles returns the staged files beside the pid file of a service.
func stagedFiles(t *testing.T, r *testclient.Service) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(r.Set.PIDFile), ".pid.*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// reservedBy reports whether the process pid has reserved room on the disk for an outcome.
func reservedBy(t *testing.T, r *testclient.Service, pid int) bool {
	t.Helper()
	for _, file := range stagedFiles(t, r) {
		info, err := os.Stat(file)
		if err == nil && info.Size() > 4096 && strings.HasPrefix(filepath.Base(file), fmt.Sprintf(".pid.%d.", pid)) {
			return true
		}
	}
	return false
}

// During an upgrade, both processes have reserved room on the disk for the outcome. At the end no staged file is left, however
// the upgrade ends, even if one of the processes is killed.
func TestRoomForTheOutcomeIsReserved(t *testing.T) {
	for name, end := range map[string]func(r *testclient.Service, candidate int) error{
		"commit": func(r *testclient.Service, _ int) error { r.Ask("POST", "/commit"); return nil },
		"abort":  func(r *testclient.Service, _ int) error { r.Ask("POST", "/abort"); return nil },
		"candidate is killed": func(_ *testclient.Service, candidate int) error {
			return syscall.Kill(candidate, syscall.SIGKILL)
		},
		"old process is killed": func(r *testclient.Service, _ int) error { r.Kill(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, long)
			old := r.MainPID()
			candidate, done := r.Soaking()
			for _, pid := range []int{old, candidate} {
				if !reservedBy(t, r, pid) {
					t.Errorf("process %d of %d and %d has reserved nothing: %v", pid, old, candidate, stagedFiles(t, r))
				}
			}
			if err := end(r, candidate); err != nil {
				t.Fatal(err)
			}
			<-done
			r.WaitFamily(t, 1, patience)
			testutil.Until(t, patience, "nothing is left", func() bool { return len(stagedFiles(t, r)) == 0 })
		})
	}
}

// If no room can be reserved for the outcome, the upgrade goes on. At its end the outcome is written nevertheless, if that is
// possible then.
func TestUpgradeWithoutRoomForTheOutcome(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) {
		dir := filepath.Join(filepath.Dir(s.PIDFile), "run")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.PIDFile = filepath.Join(dir, "pid")
	})
	r.Change(func(s *plan.Settings) { s.Bad = plan.HangAtStart })
	dir := filepath.Dir(r.Set.PIDFile)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	done := r.BeginUpgrade()
	r.WaitOutput(patience, "no room is reserved for the outcome")
	r.WaitPhase("start")
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	r.Ask("POST", "/abort")
	<-done
	testutil.Until(t, patience, "the outcome is recorded", func() bool { return exists(lastFile(r)) })
	r.Change(func(s *plan.Settings) { s.Bad = "" })
	request(t, r).mustBeCommitted(t, 2)
	testutil.Until(t, patience, "nothing is left", func() bool { return len(stagedFiles(t, r)) == 0 })
}
