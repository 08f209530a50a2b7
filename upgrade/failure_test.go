//go:build linux

package upgrade_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// If a new process fails in any way before it is ready to serve, no request is lost. The error has the phase and the reason,
// the old process serves on, and the next upgrade works.
func TestBadReleaseIsNeverNoticed(t *testing.T) {
	for _, c := range []struct {
		bad           plan.Misbehaviour
		phase, reason string // alternatives are separated by |
		change        func(*plan.Settings)
	}{
		{bad: plan.ExitAtStart, phase: "start", reason: "exit status 7"},
		{bad: plan.HangAtStart, phase: "start", reason: "did not get to upgrade.New within 4s", change: impatient},
		{bad: plan.CheckFails, phase: "check", reason: `check "good": the database is not there`},
		{bad: plan.CheckPanics, phase: "check", reason: "nil map"},
		// It depends on the machine which of the two processes notices the end of the time first.
		{bad: plan.CheckHangs, phase: "check", reason: `check "good": context deadline exceeded|it was not prepared within 3s`,
			change: func(s *plan.Settings) { s.Timeout = 3 * time.Second }},
		{bad: plan.CheckCrashes, phase: "check", reason: "a bug in the new release"},
		{bad: plan.ListenFails, phase: "start", reason: "listen tcp 127.0.0.1:99999"},
		{bad: plan.ServeFails, phase: "start", reason: "the server does not start"},
		{bad: plan.RefuseValue, phase: "check", reason: `keep "value" refuses`},
		{bad: "bake error", phase: "bake", reason: "too many errors", change: func(s *plan.Settings) { s.Bake = plan.BakeFails }},
		{bad: "bake panic", phase: "bake", reason: "the judge fell over", change: func(s *plan.Settings) { s.Bake = plan.BakePanics }},
	} {
		t.Run(string(c.bad), func(t *testing.T) {
			testutil.Sample(t)
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				if c.change != nil {
					c.change(s)
				}
				if s.Bake == "" {
					s.Bad = c.bad
				}
			})
			l := r.Load(smallLoad)
			r.MustFail(c.phase, c.reason)
			r.MustRecover(l, 1)
			r.Account(l).MustBeClean(t)
		})
	}
}

// If the executable file or its path is wrong, the upgrade fails in phase start, and the reason names the problem.
func TestUnusableExecutableIsNamed(t *testing.T) {
	write := func(mode os.FileMode, content string) func(*testclient.Service) {
		return func(r *testclient.Service) {
			path := filepath.Join(r.Dir, "broken")
			if err := os.WriteFile(path, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
			r.LinkTo(path)
		}
	}
	for _, c := range []struct {
		name, reason string
		spoil        func(*testclient.Service)
	}{
		{"missing", "no such file", func(r *testclient.Service) { r.LinkTo(filepath.Join(r.Dir, "nothing")) }},
		{"directory", "is a directory", func(r *testclient.Service) { r.LinkTo(r.Dir) }},
		{"not executable", "not executable", write(0o600, "#!/bin/true\n")},
		{"not a program", "exec format error", write(0o700, "\x00\x01\x02")},
		{"other architecture", "exec format error", write(0o700, elfOfAnotherMachine())},
		{"interpreter missing", "no such file", write(0o700, "#!/nowhere/sh\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, wrappers) // otherwise most of the files would be refused because they do not have the mark
			l := r.Load(smallLoad)
			c.spoil(r)
			r.MustFail("start", c.reason)
			r.LinkTo(testclient.Binary(t))
			r.MustRecover(l, 1)
			r.Account(l).MustBeClean(t)
		})
	}
}

// elfOfAnotherMachine returns the header of a program for another processor.
func elfOfAnotherMachine() string {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	h[16], h[18] = 2, 0xf3 // executable, RISC-V
	h[20], h[52] = 1, 64
	return string(h)
}

func TestRemovedStartDirectoryIsNamed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "wd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := testclient.StartIn(t, dir, nil)
	l := r.Load(smallLoad)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	r.MustFail("start", "directory that the program was started in is gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r.MustRecover(l, 1)
	r.Account(l).MustBeClean(t)
}

// A candidate that cannot write the pid file is not prepared.
func TestUnwritablePIDFileFailsTheCheck(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) {
		dir := filepath.Join(filepath.Dir(s.PIDFile), "run")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.PIDFile = filepath.Join(dir, "pid")
	})
	l := r.Load(smallLoad)
	run := filepath.Dir(r.Set.PIDFile)
	if err := os.Rename(run, run+".away"); err != nil {
		t.Fatal(err)
	}
	if a := r.Ask("POST", "/upgrade"); a.Committed || a.Phase != "check" || !strings.Contains(a.Reason, "pid file") {
		t.Fatalf("upgrade: %+v", a)
	}
	if err := os.Rename(run+".away", run); err != nil {
		t.Fatal(err)
	}
	r.MustRecover(l, 1)
	r.Account(l).MustBeClean(t)
}

// Failed upgrades leave no descriptor, no goroutine and no process behind.
func TestFailedUpgradesLeaveNothing(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.ExitAtStart })
	r.MustFail("start", "exit status 7")
	before := r.Ask("GET", "/status")
	for n := range 20 {
		r.Change(func(s *plan.Settings) {
			s.Bad = []plan.Misbehaviour{plan.ExitAtStart, plan.CheckFails, plan.RefuseValue, plan.CheckCrashes}[n%4]
		})
		if a := r.Ask("POST", "/upgrade"); a.Committed {
			t.Fatalf("upgrade: %+v", a)
		}
	}
	testutil.Until(t, patience, "everything is as before", func() bool {
		a := r.Ask("GET", "/status")
		return a.FDs <= before.FDs && a.Goroutines <= before.Goroutines && a.Children == before.Children
	})
}

// If the reason of a failure is very long, its beginning reaches the old process, and the old process serves on.
func TestLongReasonIsNoDeath(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.CheckFailLong })
	l := r.Load(smallLoad)
	r.MustFail("check", strings.Repeat("x", 1000))
	r.MustRecover(l, 1)
	r.Account(l).MustBeClean(t)
}
