//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// No other process can connect to the supervisor: apart from the listeners, no process of the service has a unix socket with a
// name, neither a path nor an abstract name.
func TestSupervisorHasNoSocketWithAName(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	r.Upgrade()
	r.WaitFamily(t, 2, patience)
	names := map[string]string{}
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) == 8 {
			names["socket:["+f[6]+"]"] = f[7]
		}
	}
	found := 0
	for _, pid := range r.Family() {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil || len(fds) == 0 {
			t.Fatalf("descriptors of %d: %v", pid, err)
		}
		for _, fd := range fds {
			link, _ := os.Readlink(fd) // the descriptor may be closed
			switch name := names[link]; {
			case name == "":
			case name == filepath.Join(r.Dir, "admin.sock"):
				found++
			default:
				t.Errorf("process %d has a socket %q", pid, name)
			}
		}
	}
	if found == 0 {
		t.Error("not even the admin listener was found")
	}
	r.MustStop(syscall.SIGTERM)
}

// limited starts the service as root, but not dumpable, and without the right to read other processes, as Docker does. So the
// supervisor cannot read the environment and the executable of the service.
func limited(t *testing.T, change func(*plan.Settings)) *testclient.Service {
	t.Helper()
	setpriv := testutil.Program(t, "setpriv", "util-linux")
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root has rights that can be taken away")
	}
	return testclient.StartBy(t, func(s *plan.Settings) { always(s); s.Undumpable = true; change(s) }, func(r *testclient.Service) *testutil.Proc {
		return testutil.StartCommand(t, testutil.Cfg{Env: []string{r.Env(), "MIDAIR_TEST_ROLE=service"}},
			setpriv, "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", testclient.Binary(t))
	})
}

// If no process may read the processes of a service, upgrades and a restart after a crash work nevertheless: one process of
// the build that was committed last serves.
func TestHiddenServiceIsOneService(t *testing.T) {
	t.Parallel()
	r := limited(t, func(*plan.Settings) {})
	if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", r.MainPID())); err != nil && os.Geteuid() != 0 {
		t.Logf("it is hidden from this test too: %v", err)
	}
	l := r.Load(smallLoad)
	for n := range 3 {
		r.Release("build" + strconv.Itoa(n))
		r.Upgrade()
		r.WaitFamily(t, 2, patience)
	}
	r.WaitKnown()
	dead, at := r.KillAll()
	mustBeBack(t, r, l, dead)
	r.MustRun("build2")
	r.WaitFamily(t, 2, patience)
	r.MustHaveLostOnlyThen(r.Account(l), []time.Time{at}, dead)
	r.Rollback()
	r.MustRun("build1")
	r.WaitFamily(t, 2, patience)
	r.MustStop(syscall.SIGTERM)
}

// A helper that a wrapper script starts has the descriptors and the environment of a candidate, but the supervisor does not
// take it for a candidate: the helper does not delay the restart after a crash.
func TestHelperOfAWrapperIsNoHeir(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { always(s); wrappers(s) })
	l := r.Load(smallLoad)
	path := filepath.Join(r.Dir, "wrapper")
	script := strings.Join([]string{"#!/bin/sh", "sleep 300 &", "exec " + testclient.Binary(t) + ` "$@"`, ""}, "\n")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r.LinkTo(path)
	r.Upgrade()
	r.WaitKnown()
	pid := r.MainPID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	mustBeBack(t, r, l, []int{pid})
	if strings.Contains(r.Output(), "is to take over") {
		t.Error("the supervisor waited for the helper")
	}
	l.Stop()
	r.MustStop(syscall.SIGTERM)
}

// If a wrapper cleans the environment, the service does not find its channel to the supervisor. The service serves, logs the
// problem at once, refuses upgrades with the reason, and is started again after a crash.
func TestCleanedEnvironmentIsSaid(t *testing.T) {
	t.Parallel()
	r := testclient.StartBy(t, func(s *plan.Settings) { always(s); s.Cleaned = true }, func(r *testclient.Service) *testutil.Proc {
		return testutil.Start(t, "service", testutil.Cfg{Env: []string{r.Env()}})
	})
	l := r.Load(smallLoad)
	r.MustSay("a wrapper has to leave MIDAIR_CHANNEL")
	if a := r.Ask("POST", "/upgrade"); a.Committed || !strings.Contains(a.Reason, "a wrapper has to leave MIDAIR_CHANNEL") {
		t.Errorf("an upgrade: committed %v, %q", a.Committed, a.Reason)
	}
	r.WaitKnown()
	pid := r.MainPID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	mustBeBack(t, r, l, []int{pid})
	l.Stop()
	r.MustStop(syscall.SIGTERM)
}
