//go:build linux

package upgrade_test

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
)

// Without the supervisor, the old process names the new process to systemd, because systemd may accept messages of the main
// process only.

// heldUnit starts a unit in whose first upgrade a process waits at the step.
func heldUnit(t *testing.T, access, step string) (*testclient.Unit, testclient.Fault) {
	t.Helper()
	f := testclient.FaultAt(t, step, "hold")
	return testclient.StartUnit(t, testclient.UnitFile{Access: access, Stores: 16, Env: []string{f.Env}}, nil), f
}

// mustPass waits for the given time, because the test is about what happens after this time.
func mustPass(t *testing.T, d time.Duration) {
	t.Helper()
	begun := time.Now()
	testutil.Until(t, patience, d.String(), func() bool { return time.Since(begun) > d })
}

// A candidate that needs long from the commit message until it serves is named to systemd, too.
func TestSlowCommitIsNamed(t *testing.T) {
	t.Parallel()
	u, f := heldUnit(t, "main", "new.commit")
	done := make(chan error, 1)
	go func() { done <- u.Reload(patience) }()
	f.Held(u.Service)
	mustPass(t, 1300*time.Millisecond)
	f.GoOn(t)
	if err := <-done; err != nil {
		t.Errorf("reload: %v", err)
	}
	alone(t, u)
	if !u.Runs() || u.Main() != u.MainPID() {
		t.Errorf("the unit runs: %v, its main process is %d, and %d serves", u.Runs(), u.Main(), u.MainPID())
	}
}

// After a stop that comes before the new process was named, the new process sends nothing after STOPPING=1, and the sockets
// stay in systemd's store.
func TestStopBeforeTheNameIsTheLastWord(t *testing.T) {
	t.Parallel()
	u, f := heldUnit(t, "all", "old.confirmed")
	old, n := u.MainPID(), u.Manager.Count()
	open := u.Dial().Begin()
	u.SignalMain(syscall.SIGHUP)
	f.Held(u.Service)
	u.WaitServing(2, old)
	late := u.Dial().Begin()
	stored := u.Manager.Stored()
	u.SignalMain(syscall.SIGTERM)
	testutil.Until(t, patience, "the service stops", func() bool { return slices.Contains(words(u.Manager.Since(n)), "STOPPING=1") })
	mustPass(t, 1600*time.Millisecond) // longer than nameWait
	if got := words(u.Manager.Since(n)); got[len(got)-1] != "STOPPING=1" || !slices.Equal(u.Manager.Stored(), stored) {
		t.Errorf("systemd was told %q, and has %q of %q", got, u.Manager.Stored(), stored)
	}
	f.GoOn(t)
	late.Finish()
	open.Finish()
}

// If an upgrade is requested before the new process was named, the new process reports the upgrade to systemd after it was
// named.
func TestUpgradeBeforeTheNameIsToldAfterIt(t *testing.T) {
	t.Parallel()
	u, f := heldUnit(t, "all", "old.confirmed")
	testutil.Until(t, patience, "the unit is ready", func() bool { return slices.Contains(words(u.Manager.Since(0)), "READY=1") })
	old, n := u.MainPID(), u.Manager.Count()
	u.SignalMain(syscall.SIGHUP)
	f.Held(u.Service)
	u.WaitServing(2, old)
	two := u.MainPID()
	u.SignalMain(syscall.SIGHUP)
	u.WaitServing(3, two)
	f.GoOn(t)
	alone(t, u)
	states := slices.DeleteFunc(words(u.Manager.Since(n)), func(w string) bool { return w != "READY=1" && w != "RELOADING=1" })
	if got := strings.Join(states, " "); got != "RELOADING=1 READY=1 RELOADING=1 READY=1" {
		t.Errorf("systemd was told %s", got)
	}
}

// If a candidate dies after it has begun to serve and before systemd knows it, the old process serves on. Otherwise systemd
// would take the end of the old process for the end of the service.
func TestDeathBeforeTheNameIsReadIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, access := range []string{"main", "all"} {
		t.Run(access, func(t *testing.T) {
			t.Parallel()
			u, f := heldUnit(t, access, "old.confirmed")
			old := u.MainPID()
			l := u.Load(testutil.LoadOptions{New: 2})
			done := make(chan error, 1)
			go func() { done <- u.Reload(patience) }()
			f.Held(u.Service)
			u.WaitServing(2, old)
			dead, at := u.MainPID(), time.Now()
			if err := syscall.Kill(dead, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			testutil.Until(t, patience, "it is dead", func() bool { return testclient.Gone(dead) })
			f.GoOn(t)
			if err := <-done; err != nil {
				t.Errorf("reload: %v", err)
			}
			testutil.Until(t, patience, "the old process serves on", func() bool { return u.ServesWithout(dead) })
			answered := l.Total()
			testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > answered+50 })
			u.MustHaveLostOnlyThen(u.Account(l), []time.Time{at}, []int{dead})
			if !u.Runs() || u.Main() != old {
				t.Errorf("the unit runs: %v, its main process is %d, and %d serves", u.Runs(), u.Main(), old)
			}
			mustReload(t, u, 2)
		})
	}
}

// If the new process dies after it was named and before systemd has read the message, the old process serves on, too, because
// systemd refuses to name a process that has ended.
func TestDeathBeforeSystemdReadsTheNameIsTakenBack(t *testing.T) {
	t.Parallel()
	u, f := heldUnit(t, "main", "old.confirmed")
	old := u.MainPID()
	done := make(chan error, 1)
	go func() { done <- u.Reload(patience) }()
	f.Held(u.Service)
	u.WaitServing(2, old)
	dead := u.MainPID()
	goOn := u.Manager.Pause()
	f.GoOn(t)
	mustPass(t, 200*time.Millisecond) // the name is on its way
	err := syscall.Kill(dead, syscall.SIGKILL)
	testutil.Until(t, patience, "it is dead", func() bool { return testclient.Gone(dead) })
	goOn()
	if err := errors.Join(err, <-done); err != nil {
		t.Errorf("reload: %v", err)
	}
	testutil.Until(t, patience, "the old process serves on", func() bool { return u.ServesWithout(dead) })
	if !u.Runs() || u.Main() != old {
		t.Errorf("the unit runs: %v, its main process is %d, and %d serves", u.Runs(), u.Main(), old)
	}
}
