//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Each reload is an upgrade under load that loses nothing, and the unit stays active. This works without a store, too. With the
// supervisor the main process does not change, so NotifyAccess=main is enough.
func TestReloadUnderLoadLosesNothing(t *testing.T) {
	inUnits(t, func(t *testing.T, file testclient.UnitFile, how func(*plan.Settings)) {
		file.Stores = 0
		u := testclient.StartUnit(t, file, how)
		l := u.Load(smallLoad)
		for n := range 3 {
			mustReload(t, u, n+2)
			want := fmt.Sprint("g", n+2)
			testutil.Until(t, patience, want+" answers", func() bool { return l.Seen(want) })
		}
		u.Account(l).MustBeClean(t)
		alone(t, u)
		want := u.PID()
		if u.Set.Supervisor == "" {
			want = u.MainPID()
		}
		if !u.Runs() || u.Main() != want {
			t.Errorf("the unit runs: %v, with the main process %d, want %d", u.Runs(), u.Main(), want)
		}
	})
}

// A failed upgrade is a successful reload for systemd: in the protocol of systemd 252 to 257 a reload cannot report a failure.
// Only the status line shows it. Request returns the failure, and the service goes on.
func TestFailedReloadIsToldByRequest(t *testing.T) {
	inUnits(t, func(t *testing.T, file testclient.UnitFile, how func(*plan.Settings)) {
		u := testclient.StartUnit(t, file, how)
		u.Change(func(s *plan.Settings) { s.Bad = plan.CheckFails })
		main := u.Main()
		if err := u.Reload(patience); err != nil {
			t.Errorf("reload: %v", err)
		}
		all := u.Manager.Since(0)
		if last := all[len(all)-1].Text; !strings.Contains(last, "the last upgrade failed: check") {
			t.Errorf("systemd was told %q last", last)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := upgrade.Request(ctx, u.Set.PIDFile)
		if failed := (*upgrade.Error)(nil); !errors.As(err, &failed) || failed.Phase != "check" || out.Committed {
			t.Errorf("Request: %v, %+v", err, out)
		}
		if !u.Runs() || u.Main() != main {
			t.Errorf("the unit runs: %v, with the main process %d, which was %d", u.Runs(), u.Main(), main)
		}
		mustStopAnswering(t, u, u.Dial().Begin())
	})
}

// A reload that comes while no process serves is carried out when a process serves.
func TestReloadWhileNobodyServesIsDoneLater(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.ready", "hold")
	file := supervisedUnit
	file.Env = []string{f.Env}
	u := testclient.StartUnit(t, file, always)
	dead := u.MainPID()
	u.SignalMain(syscall.SIGKILL)
	f.Held(u.Service)
	n := u.Manager.Count()
	done := make(chan error, 1)
	go func() { done <- u.Reload(patience) }()
	testutil.Until(t, patience, "the HUP is received", func() bool { return u.Asked() && !testclient.Pending(u.PID(), syscall.SIGHUP) })
	f.GoOn(t)
	if err := <-done; err != nil {
		t.Errorf("reload: %v", err)
	}
	u.WaitServing(3, dead)
	if got := words(u.Manager.Since(n)); !slices.Equal(got, []string{"READY=1", "RELOADING=1", "READY=1"}) {
		t.Errorf("systemd was told %q", got)
	}
}

// A reload ends even if the main generation is killed during its upgrade: the process that is then started reports that it is
// ready.
func TestReloadEndsWhenItsGenerationIsKilled(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "old.hello", "kill")
	file := supervisedUnit
	file.Env = []string{f.Env}
	u := testclient.StartUnit(t, file, always)
	dead := u.MainPID()
	if err := u.Reload(patience); err != nil {
		t.Errorf("reload: %v", err)
	}
	u.WaitServing(3, dead)
	mustReload(t, u, 4)
}

// Without a supervisor, the end of the main process during its upgrade ends the reload with an error. The test kills the main
// process before there is a candidate, because a candidate might become the service before systemd has noticed the death.
func TestReloadFailsWithTheMainProcess(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "old.start", "kill")
	file := unsupervisedUnit
	file.Env = []string{f.Env}
	u := testclient.StartUnit(t, file, nil)
	if err := u.Reload(patience); err == nil || u.Runs() {
		t.Errorf("reload: %v, the unit runs: %v", err, u.Runs())
	}
	u.WaitFamily(t, 0, patience)
	u.Start()
	u.Dial()
}
