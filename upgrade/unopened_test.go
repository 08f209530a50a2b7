//go:build linux

package upgrade_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// leftOut has ways in which the next release does not open a socket of this release.
var leftOut = map[string]struct {
	first, next func(*plan.Settings)
	named       func(r *testclient.Service) string // the name of the socket in the error
	address     func(r *testclient.Service) string // the address for MayClose
}{
	"another address": {
		next:    func(s *plan.Settings) { s.Addr = "127.0.0.2:0" },
		named:   func(r *testclient.Service) string { return "tcp 127.0.0.1:0 (" + r.Addr + ")" },
		address: func(*testclient.Service) string { return "127.0.0.1:0" },
	},
	"one listener less": {
		first: func(s *plan.Settings) { s.Many = 2 }, next: func(s *plan.Settings) { s.Many = 1 },
		named:   func(r *testclient.Service) string { return "unix " + filepath.Join(r.Dir, "1") },
		address: func(r *testclient.Service) string { return filepath.Join(r.Dir, "1") },
	},
	"no datagrams": {
		first: func(s *plan.Settings) { s.Names = plan.NamesUDP }, next: func(s *plan.Settings) { s.Names = "" },
		named:   func(r *testclient.Service) string { return "udp 127.0.0.1:0 (" + r.Read("names-addr") + ")" },
		address: func(*testclient.Service) string { return "*" },
	},
}

// A release that does not open a socket of the serving process is not prepared, by Upgrade, by SIGHUP and in a rehearsal, and
// the error names the socket. MayClose and Restart allow such a release. The way back is never refused for this reason.
func TestReleaseThatForgetsASocketIsTakenBack(t *testing.T) {
	for name, c := range leftOut {
		for processes, supervision := range withAndWithout {
			t.Run(fmt.Sprint(name, ", ", processes, " processes"), func(t *testing.T) {
				t.Parallel()
				r := testclient.Start(t, func(s *plan.Settings) {
					supervision(s)
					if c.first != nil {
						c.first(s)
					}
				})
				r.WaitServing(1, 0)
				l := r.Load(smallLoad)
				kept := r.Set
				r.Release("second")
				r.Change(c.next)
				named := "it has not opened " + c.named(r) + ", where the old process listens"
				for _, path := range []string{"/upgrade-to-the-file", "/rehearse"} {
					if a := r.Ask("POST", path); a.Committed || a.Phase != "check" || !strings.Contains(a.Reason, named) {
						t.Fatalf("%s: committed %v in phase %q: %s, want %q", path, a.Committed, a.Phase, a.Reason, named)
					}
				}
				r.SignalMain(syscall.SIGHUP)
				testutil.Until(t, patience, "the upgrade has failed", func() bool {
					last := r.Status().Last
					return last != nil && last.Kind == "upgrade" && !last.Committed && strings.Contains(last.Reason, named)
				})
				r.WaitFamily(t, processes, patience)
				r.Account(l).MustBeClean(t)

				r.Change(func(s *plan.Settings) { s.MayClose = []string{"127.0.0.9:1", c.address(r)} })
				if a := r.Ask("POST", "/upgrade-to-the-file"); !a.Committed {
					t.Fatalf("upgrade: %s", a.Error)
				}
				r.WaitFamily(t, processes, patience)
				r.MustSay("sockets of the old process end with the commit")
				if name == "one listener less" {
					mustBeRefused(t, "unix", c.address(r))
				}
				r.Change(func(s *plan.Settings) { *s = kept })
				r.Upgrade()
				r.WaitFamily(t, processes, patience)
				r.Change(c.next)
				r.Upgrade() // allowed by Restart
				r.WaitFamily(t, processes, patience)
			})
		}
	}
}

// mustBeRefused waits until no process listens.
func mustBeRefused(t *testing.T, network, addr string) {
	t.Helper()
	testutil.Until(t, patience, addr+" refuses", func() bool {
		c, err := net.Dial(network, addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

// Rollback works even if the earlier build does not open all sockets of the newer build. The log names the new sockets.
func TestRollbackMayForgetSockets(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	r.WaitServing(1, 0)
	r.Release("second")
	r.Change(func(s *plan.Settings) { s.Many = 1 })
	if a := r.Ask("POST", "/upgrade-to-the-file"); !a.Committed {
		t.Fatalf("upgrade: %s", a.Error)
	}
	r.WaitFamily(t, 1, patience)
	r.MustSay("listens on a socket that the old process does not have")
	r.Change(func(s *plan.Settings) { s.Many = 0 })
	r.Rollback()
	r.WaitFamily(t, 1, patience)
	mustBeRefused(t, "unix", filepath.Join(r.Dir, "0"))
}

// A socket that was opened while Run ran need not be opened by the next release before Run.
func TestLateSocketIsNotExpected(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"marked", "not marked"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, anyFile)
			r.WaitServing(1, 0)
			r.Ask("POST", "/listen")
			mustBeGreeted(t, r, "late.sock")
			if name == "marked" {
				r.Release("second")
			} else {
				r.LinkTo(testclient.Unmarked(t))
			}
			if a := r.Ask("POST", "/upgrade-to-the-file"); !a.Committed {
				t.Fatalf("upgrade: %s", a.Error)
			}
		})
	}
}

// Sockets that are files at exec are compared as well: by the names that the old process sends, or by kind and address if the
// old process sends no names, as with tableflip.
func TestForgottenFilesAtExecAreFound(t *testing.T) {
	t.Run("not marked", func(t *testing.T) {
		t.Parallel()
		r := testclient.Start(t, func(s *plan.Settings) { anyFile(s); s.Many = 1 })
		r.WaitServing(1, 0)
		r.LinkTo(testclient.Unmarked(t))
		r.Change(func(s *plan.Settings) { s.Many = 0 })
		named := "it has not opened unix " + filepath.Join(r.Dir, "0") + ", where"
		if a := r.Ask("POST", "/upgrade-to-the-file"); a.Committed || a.Phase != "check" || !strings.Contains(a.Reason, named) {
			t.Fatalf("upgrade: %+v", a)
		}
	})
	t.Run("tableflip", func(t *testing.T) {
		t.Parallel()
		r := testclient.Start(t, func(s *plan.Settings) { anyFile(s); s.Plain = true })
		l := r.Load(smallLoad)
		r.Change(func(s *plan.Settings) { s.Plain, s.Addr = false, "127.0.0.2:0" })
		r.SignalMain(syscall.SIGHUP)
		r.WaitOutput(patience, "it has not opened tcp "+r.Addr+", where the old process listens")
		r.WaitFamily(t, 1, patience)
		r.Account(l).MustBeClean(t)
	})
}
