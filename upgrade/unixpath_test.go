//go:build linux

package upgrade_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// If a failed candidate has left the path of its socket, the next candidate, which needs the same path, can still open it.
func TestStaleUnixPathIsReplaced(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.ListenMoreCheckFails })
	r.MustFail("check", "the database is not there")
	r.Change(func(s *plan.Settings) { s.Bad = plan.ListenMore })
	r.Upgrade()
	mustBeGreeted(t, r, "new.sock")
}

// A process that stops after a new instance of the service has begun does not remove the path of the new instance.
func TestStopLeavesTheNextInstancesPath(t *testing.T) {
	for n, name := range []string{"first generation", "second generation"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, onPath)
			for range n {
				r.Upgrade()
				r.WaitFamily(t, 1, patience)
			}
			p := r.Dial().Begin()
			r.SignalMain(syscall.SIGTERM)
			testutil.Until(t, patience, "the path is removed", func() bool { return !exists(r.Addr) })
			ln, err := net.Listen("unix", r.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			p.Finish()
			r.WaitFamily(t, 0, patience)
			if !exists(r.Addr) {
				t.Error("the path of the new instance is removed")
			}
		})
	}
}

// The path of a unix socket that the new release does not open is removed at the commit, and stays if the commit fails.
func TestUnclaimedPathSurvivesAFailedCommit(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.ready", "kill")
	r := testclient.Start(t, onPath, f.Env)
	r.Change(func(s *plan.Settings) { s.Network, s.Addr = "tcp", "127.0.0.1:0" })
	r.MustFail("commit", "signal: killed")
	if by := r.Dial().By; by != "g1" {
		t.Errorf("%s answers on the path", by)
	}
	r.Upgrade()
	testutil.Until(t, patience, "the path is removed", func() bool { return !exists(r.Addr) })
}
