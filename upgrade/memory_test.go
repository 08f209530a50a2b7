//go:build linux

package upgrade_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// inProc returns the number in a file of /proc/PID.
func inProc(t *testing.T, pid int, name string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// rank returns oom_score_adj of a process.
func rank(t *testing.T, pid int) int {
	t.Helper()
	return inProc(t, pid, "oom_score_adj")
}

// ownRank returns the rank of this test, which every process that it starts inherits.
func ownRank(t *testing.T) int {
	t.Helper()
	own := rank(t, os.Getpid())
	if own == 1000 {
		t.Skip("NOT RUN: this process is to be killed first itself")
	}
	return own
}

// mustBeVictim fails the test unless the kernel would kill the candidate, and not the old process, if memory ran out.
func mustBeVictim(t *testing.T, candidate, old int) {
	t.Helper()
	if rank(t, candidate) != 1000 || inProc(t, candidate, "oom_score") <= inProc(t, old, "oom_score") {
		t.Errorf("the candidate would not be killed first: %d and %d", rank(t, candidate), rank(t, old))
	}
}

// If memory runs out during an upgrade, the kernel kills the candidate and not the service, whatever the user of the candidate
// is, and even if the candidate is not dumpable. After the commit, and after a rollback, the new service has the rank of the
// old service.
func TestMemoryPressureSparesTheService(t *testing.T) {
	own := ownRank(t)
	for name, change := range map[string]func(*plan.Settings){
		"alone":        nil,
		"supervised":   always,
		"not dumpable": func(s *plan.Settings) { s.Undumpable = true },
		"drops root":   func(s *plan.Settings) { s.Bad = plan.CheckDropUser },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "drops root" && os.Geteuid() != 0 {
				t.Skip("NOT RUN: only root can become another user")
			}
			r := testclient.Start(t, func(s *plan.Settings) {
				if long(s); change != nil {
					change(s)
				}
			})
			if err := os.Chown(r.Dir, plan.Stranger, -1); err != nil && os.Geteuid() == 0 {
				t.Fatal(err)
			}
			first := r.MainPID()
			candidate, done := r.Soaking()
			mustBeVictim(t, candidate, first)
			r.Ask("POST", "/commit")
			if a := <-done; !a.Committed {
				t.Fatalf("upgrade: %+v", a)
			}
			r.WaitServing(2, first)
			if got := rank(t, candidate); got != own {
				t.Errorf("the service has %d, want %d", got, own)
			}
			if name == "supervised" {
				if got := rank(t, r.PID()); got != own {
					t.Errorf("the supervisor has %d, want %d", got, own)
				}
			}
			if name == "drops root" {
				return // the first build could not read files of root
			}
			r.Release("other")
			other, done := r.Soaking()
			mustBeVictim(t, other, candidate)
			r.Ask("POST", "/commit")
			if a := <-done; !a.Committed || rank(t, other) != own {
				t.Errorf("the third generation: %+v, has %d, want %d", a, rank(t, other), own)
			}
			r.WaitServing(3, candidate)
			if r.Rollback(); rank(t, r.MainPID()) != own {
				t.Errorf("after the rollback: %d, want %d", rank(t, r.MainPID()), own)
			}
		})
	}
}

// An attempt that fails, is aborted or is a rehearsal does not change the rank of the old process, and the next upgrade is
// committed.
func TestMemoryRankOfTheServiceNeverChanges(t *testing.T) {
	t.Parallel()
	own := ownRank(t)
	r := testclient.Start(t, long)
	old := r.MainPID()
	candidate, done := r.Soaking()
	mustBeVictim(t, candidate, old)
	if got := rank(t, old); got != own {
		t.Errorf("during the upgrade: %d, want %d", got, own)
	}
	r.Ask("POST", "/abort")
	if a := <-done; a.Committed || rank(t, old) != own {
		t.Errorf("after the abort: %d, want %d; %+v", rank(t, old), own, a)
	}
	r.Ask("POST", "/rehearse")
	r.Change(func(s *plan.Settings) { s.Bad = plan.CheckFails })
	r.Ask("POST", "/upgrade")
	if got := rank(t, old); got != own || r.MainPID() != old {
		t.Errorf("after a rehearsal and a failure: %d, want %d", got, own)
	}
	r.Change(func(s *plan.Settings) { s.Bad = "" })
	r.UpgradeNow()
	if got := rank(t, r.MainPID()); got != own {
		t.Errorf("the next one: %d, want %d", got, own)
	}
}

// If the old process dies, its candidate becomes the service. If the candidate was taken back before, the process that it
// starts becomes the service. The kernel would kill neither of the two first.
func TestLastProcessIsNotKilledFirst(t *testing.T) {
	own := ownRank(t)
	t.Run("takes over", func(t *testing.T) {
		t.Parallel()
		r := testclient.Start(t, long)
		candidate, _ := r.Soaking()
		r.Kill()
		testutil.Until(t, patience, "the candidate is the service", func() bool { return r.MainPID() == candidate })
		if got := rank(t, candidate); got != own {
			t.Errorf("%d, want %d", got, own)
		}
	})
	t.Run("starts anew", func(t *testing.T) {
		t.Parallel()
		f := testclient.FaultAt(t, "old.aborted", "kill")
		r := testclient.Start(t, long, f.Env)
		candidate, _ := r.Soaking()
		_, _ = r.TryAsk(t.Context(), "POST", "/abort") // the fault kills the old process
		testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(candidate) && r.MainPID() != r.PID() })
		if got := rank(t, r.MainPID()); got != own {
			t.Errorf("%d, want %d", got, own)
		}
	})
}

// After the commit, the kernel would still first kill the processes that the program has started as a candidate. The log names
// these processes once. It does not name processes that the program starts as the service.
func TestProcessesOfTheCandidateAreNamed(t *testing.T) {
	t.Parallel()
	own := ownRank(t)
	r := testclient.Start(t, nil, plan.HelpersEnv+"=yes")
	first := r.MainPID()
	r.Upgrade()
	r.WaitServing(2, first)
	r.Post("/helper")
	pid := r.MainPID()
	want := map[plan.Helper]int{plan.HelperOfMain: 1000, plan.HelperOfCheck: 1000, plan.HelperOfHandler: own}
	var named []string
	for helper, rankWant := range want {
		var at int
		testutil.Until(t, patience, "the helper "+string(helper), func() bool { at = helperOf(r, pid, helper); return at != 0 })
		if got := rank(t, at); got != rankWant {
			t.Errorf("the helper %s has %d, want %d", helper, got, rankWant)
		}
		if rankWant == 1000 {
			named = append(named, strconv.Itoa(at))
		}
	}
	line := r.WaitOutput(patience, "processes that this one started as a candidate are killed first")
	_, list, _ := strings.Cut(line, "pids=")
	got := strings.Fields(strings.Trim(list, "\"[]"))
	slices.Sort(got)
	if slices.Sort(named); !slices.Equal(got, named) {
		t.Errorf("named: %q, want %q", got, named)
	}
	if n := strings.Count(r.Output(), "started as a candidate"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// If the old value cannot be restored, the service serves nevertheless, and the log says what this means.
func TestRankThatStaysIsSaid(t *testing.T) {
	t.Parallel()
	ownRank(t)
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can become another user")
	}
	r := testclient.Start(t, func(s *plan.Settings) { long(s); s.Bad = plan.CheckDropUser })
	if err := os.Chown(r.Dir, plan.Stranger, -1); err != nil {
		t.Fatal(err)
	}
	first := r.MainPID()
	candidate, done := r.Soaking()
	// If this test has CAP_SYS_RESOURCE, the write also sets the lowest value that the candidate may write.
	if err := os.WriteFile("/proc/"+strconv.Itoa(candidate)+"/oom_score_adj", []byte("1000"), 0); err != nil {
		t.Fatal(err)
	}
	r.Ask("POST", "/commit")
	if a := <-done; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	r.WaitServing(2, first)
	if rank(t, candidate) != 1000 {
		t.Skip("NOT RUN: it needs CAP_SYS_RESOURCE")
	}
	r.WaitOutput(patience, "if memory runs out this service is killed first")
}
