//go:build linux

package upgrade_test

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// The path that a failed candidate has left does not stop the next one, which needs the same path.
func TestStaleUnixPathIsReplaced(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "check-newsock" })
	r.mustFail("check", "the database is not there")
	r.change(func(s *settings) { s.Bad = "newsock" })
	r.upgrade()
	r.mustBeGreeted("new.sock")
}

// A process that stops while a new instance of the service has begun leaves that one's path alone.
func TestStopLeavesTheNextInstancesPath(t *testing.T) {
	for n, name := range []string{"first generation", "second generation"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startService(t, onPath)
			for range n {
				r.upgrade()
				r.WaitFamily(t, 1, patience)
			}
			p := r.dial().begin()
			r.signalMain(syscall.SIGTERM)
			testutil.Until(t, patience, "the path is removed", func() bool { return !exists(r.addr) })
			ln, err := net.Listen("unix", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			p.finish()
			r.WaitFamily(t, 0, patience)
			if !exists(r.addr) {
				t.Error("the path of the new instance is removed")
			}
		})
	}
}

// onPath makes the service listen on a unix socket.
func onPath(s *settings) {
	s.Network, s.Addr = "unix", filepath.Join(filepath.Dir(s.PIDFile), "svc.sock")
}

// The path of a unix socket that the new release does not use goes with the commit, and stays if the commit fails.
func TestUnclaimedPathSurvivesAFailedCommit(t *testing.T) {
	t.Parallel()
	f := faultAt(t, "new.ready", "kill")
	r := startService(t, onPath, f.env)
	r.change(func(s *settings) { s.Network, s.Addr = "tcp", "127.0.0.1:0" })
	r.mustFail("commit", "signal: killed")
	if by := r.dial().by; by != "g1" {
		t.Errorf("%s answers on the path", by)
	}
	r.upgrade()
	testutil.Until(t, patience, "the path is removed", func() bool { return !exists(r.addr) })
}
