//go:build linux

package upgrade_test

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// In these tests the supervisor is killed or suspended while a process of an upgrade is held at a step.

// calmLoad is a small load, because many tests that run in parallel start processes.
var calmLoad = testutil.LoadOptions{KeepAlive: 6, New: 3, SlowEvery: 20, Think: time.Millisecond}

const (
	lostSupervisor = "the supervisor has ended while the new process was started: ask for the upgrade again"
	noSupervisor   = "upgrade: the supervisor is dead: the new process has none, and nobody will start it again"
)

// mustBeOnly fails the test unless one process of the service is left, apart from a living supervisor. It must be the process
// in the pid file, and serve as the given generation.
func mustBeOnly(t *testing.T, r *testclient.Service, processes, generation int) {
	t.Helper()
	r.WaitFamily(t, processes, patience)
	testutil.Until(t, patience, "the ended processes are known", func() bool { return len(r.Status().Draining) == 0 })
	s := r.Status()
	got := r.Family()
	if processes > 1 {
		got = r.Generations()
	}
	if len(got) != 1 || s.PID != got[0] || s.PID != r.MainPID() {
		t.Fatalf("processes %v, the pid file names %d, and %d answers", got, r.MainPID(), s.PID)
	}
	if s.State != "serving" || s.Generation != generation || s.Candidate != nil {
		t.Errorf("want generation %d serving: %+v", generation, s)
	}
}

// mustLeaveNothing fails the test unless the service has ended, and nothing of it is left.
func mustLeaveNothing(t *testing.T, r *testclient.Service) {
	t.Helper()
	r.WaitFamily(t, 0, patience)
	for _, path := range append(stagedFiles(t, r), r.Set.PIDFile, lastFile(r), filepath.Join(r.Dir, "admin.sock")) {
		if exists(path) {
			t.Errorf("%s is left", path)
		}
	}
	if c, err := net.Dial("tcp", r.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the address of the service: %v", err)
		if err == nil {
			c.Close()
		}
	}
}

// If the supervisor is killed at any step of an upgrade, one process serves afterwards: the new process if the upgrade commits,
// and otherwise the old process, which has the reason. No client notices it. Later upgrades go on without a supervisor and log
// this, and a signal to the process in the pid file ends everything.
func TestSupervisorMayDieAtAnyStep(t *testing.T) {
	for _, c := range []struct {
		step   string
		reason string // "": the upgrade commits
	}{
		{step: "old.start"}, {step: "old.forked", reason: lostSupervisor}, {step: "old.announced"}, {step: "old.started"},
		{step: "old.hello"}, {step: "new.welcomed"}, {step: "old.prepared"}, {step: "old.opened"}, {step: "old.commit"},
		{step: "old.committed"}, {step: "new.commit"}, {step: "new.ready"}, {step: "new.announced"}, {step: "old.handed-over"},
	} {
		t.Run(c.step, func(t *testing.T) {
			testutil.Sample(t)
			t.Parallel()
			f := testclient.FaultAt(t, c.step, "hold")
			r := testclient.Start(t, always, f.Env)
			l := r.Load(calmLoad)
			done := r.BeginUpgrade()
			f.Held(r)
			r.Kill()
			f.GoOn(t)
			generation := 1
			if a := <-done; a.Committed != (c.reason == "") || a.Reason != c.reason {
				t.Errorf("committed %v, phase %q, reason %q: want reason %q", a.Committed, a.Phase, a.Reason, c.reason)
			} else if a.Committed {
				generation = 2
			}
			mustServeUnsupervised(t, r, l, generation)
		})
	}
}

// mustServeUnsupervised fails the test unless the generation serves without its supervisor, no request was lost, and the
// service can be upgraded and stopped.
func mustServeUnsupervised(t *testing.T, r *testclient.Service, l *testutil.Load, generation int) {
	t.Helper()
	mustBeOrphaned(t, r, generation)
	r.Account(l).MustBeClean(t)
	said := strings.Count(r.Output(), noSupervisor)
	r.Upgrade()
	mustBeOrphaned(t, r, generation+1)
	if n := strings.Count(r.Output(), noSupervisor) - said; n != 1 {
		t.Errorf("the log says %d times that generation %d has no supervisor", n, generation+1)
	}
	r.SignalMain(syscall.SIGTERM)
	mustLeaveNothing(t, r)
}

func mustBeOrphaned(t *testing.T, r *testclient.Service, generation int) {
	t.Helper()
	mustBeOnly(t, r, 1, generation)
	if s := r.Status(); s.Supervisor != "dead" {
		t.Errorf("the supervisor of generation %d is %q", s.Generation, s.Supervisor)
	}
}

// If an upgrade is taken back after the end of the supervisor, the old process is left, whichever process takes the upgrade
// back.
func TestSupervisorMayDieInAnUpgradeThatFails(t *testing.T) {
	for name, end := range map[string]func(*testclient.Service, int) error{
		"an abort":            func(r *testclient.Service, _ int) error { r.Ask("POST", "/abort"); return nil },
		"a killed candidate":  func(_ *testclient.Service, pid int) error { return syscall.Kill(pid, syscall.SIGKILL) },
		"a stopped candidate": func(_ *testclient.Service, pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				byWeights(0)(s)
				s.Supervisor, s.Silence = "always", 300*time.Millisecond
			})
			l := r.Load(calmLoad)
			done := r.BeginUpgrade()
			r.AtStep(0)
			candidate := r.Candidate()
			r.Kill()
			if err := end(r, candidate); err != nil {
				t.Fatal(err)
			}
			if a := <-done; a.Committed || a.Phase != "bake" {
				t.Errorf("%+v", a)
			}
			r.Change(func(s *plan.Settings) { s.Bake = "" })
			mustServeUnsupervised(t, r, l, 1)
		})
	}
}

// If the supervisor is suspended during an upgrade, it knows which process is the service when it runs again: after a crash it
// starts the build of this process, and no other process.
func TestSupervisorMayBeStoppedAtAnyStep(t *testing.T) {
	for _, c := range []struct {
		step string
		bad  plan.Misbehaviour // "": the upgrade commits
	}{
		{step: "old.forked"}, {step: "new.hello"}, {step: "old.committed"}, {step: "new.ready"}, {step: "old.handed-over"},
		{step: "old.announced", bad: plan.CheckFails},
	} {
		t.Run(strings.TrimSpace(c.step+" "+string(c.bad)), func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, c.step, "hold")
			r := testclient.Start(t, always, f.Env)
			l := r.Load(calmLoad)
			r.Release("two")
			r.Change(func(s *plan.Settings) { s.Bad = c.bad })
			done := r.BeginUpgrade()
			f.Held(r)
			r.Signal(syscall.SIGSTOP)
			f.GoOn(t)
			runs, generation := "two", 2
			if a := <-done; a.Committed != (c.bad == "") {
				t.Errorf("%+v", a)
			} else if !a.Committed {
				runs, generation = "original", 1
			}
			r.Signal(syscall.SIGCONT)
			mustBeOnly(t, r, 2, generation)
			r.WaitKnown()
			dead, at := r.KillAll()
			mustBeBack(t, r, l, dead)
			r.MustRun(runs)
			mustBeOnly(t, r, 2, generation+1)
			if s := r.Status(); s.Supervisor != "alive" || s.Last == nil || s.Last.Kind != "crash" || s.Last.FromPID != dead[0] {
				t.Errorf("%+v, last %+v", s, s.Last)
			}
			r.MustHaveLostOnlyThen(r.Account(l), []time.Time{at}, dead)
			r.MustStop(syscall.SIGTERM)
			mustLeaveNothing(t, r)
		})
	}
}

// A candidate dies after it has reported to the supervisor that it serves, and before the old process knows this. For the
// supervisor the candidate is not the service: the old process goes on, and after a crash its build is started. This also holds
// if the supervisor reads the messages later.
func TestSupervisorLearnsOfACommitThatFails(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("supervisor stopped %v", stopped), func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, "new.announced", "hold")
			r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor, s.Timeout = "always", 10*time.Second }, f.Env)
			l := r.Load(calmLoad)
			r.Release("two")
			if stopped {
				r.Signal(syscall.SIGSTOP)
			}
			done := r.BeginUpgrade()
			f.Held(r)
			if !stopped {
				r.WaitOutput(patience, fmt.Sprintf("supervisor: main generation pid=%d generation=2", r.Faulted()))
			}
			failed := time.Now()
			if err := syscall.Kill(r.Faulted(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if a := <-done; a.Committed || a.Phase != "commit" {
				t.Errorf("%+v", a)
			}
			if stopped {
				r.Signal(syscall.SIGCONT)
			}
			testutil.Until(t, patience, "longer than Timeout", func() bool { return time.Since(failed) > 1500*time.Millisecond })
			mustBeOnly(t, r, 2, 1)
			dead, crashed := r.KillAll()
			mustBeBack(t, r, l, dead)
			r.MustRun("original")
			r.MustHaveLostOnlyThen(r.Account(l), []time.Time{failed, crashed}, append(dead, r.Faulted()))
			r.MustStop(syscall.SIGTERM)
			mustLeaveNothing(t, r)
		})
	}
}
