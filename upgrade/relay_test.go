//go:build linux

package upgrade_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// relayed returns a message that the supervisor sends systemd in its own name.
func relayed(by, generation int, more string) testclient.Datagram {
	return said(by, fmt.Sprintf("READY=1\nSTATUS=serving, generation %d, version devel%s", generation, more))
}

// systemd receives all messages from the supervisor, which is a child of systemd and stays the main process. This holds at the
// start, in an upgrade, in a failed upgrade, after a crash, and at the stop. At the stop the sockets stay in systemd's store.
func TestSupervisorTellsTheServiceManager(t *testing.T) {
	t.Parallel()
	m := testclient.NewManager(t)
	r := m.Start(always, nil)
	sup := r.PID()
	n := m.MustReceive(0, then(kept(sup), relayed(sup, 1, ""))...)

	r.Upgrade()
	n = m.MustReceive(n, reloading(sup, 1), relayed(sup, 2, ""))
	r.WaitFamily(t, 2, patience)

	r.Change(func(s *plan.Settings) { s.Bad = plan.CheckFails })
	r.MustFail("check", "the database is not there")
	n = m.MustReceive(n, reloading(sup, 2), relayed(sup, 2, `; the last upgrade failed: check: check "good": the database is not there`))

	r.Change(func(s *plan.Settings) { s.Bad = "" })
	r.SignalMain(syscall.SIGKILL)
	n = m.MustReceive(n, said(sup, "STATUS=generation 2, version devel, has ended: signal: killed; starting again"), relayed(sup, 3, ""))

	r.Signal(syscall.SIGTERM)
	n = m.MustReceive(n, said(sup, "STOPPING=1\nSTATUS=stopping: SIGTERM"), said(sup, "STOPPING=1"))
	r.WaitFamily(t, 0, patience)
	if m.Count() != n || len(m.Stored()) != 2 {
		t.Errorf("after the stop it heard %v, and the store has %q", m.Since(n), m.Stored())
	}
}
