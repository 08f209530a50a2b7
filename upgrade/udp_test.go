//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// No question in a datagram is lost or answered twice, whatever happens in an upgrade before its commit.
func TestDatagramsAreAnsweredOnce(t *testing.T) {
	const good, aborted, clients = 20, 3, 8
	for _, network := range []plan.Names{plan.NamesUDP, plan.NamesUnix} {
		t.Run(string(network), func(t *testing.T) {
			t.Parallel()
			fail := t.TempDir()
			r := testclient.Start(t, func(s *plan.Settings) { long(s); s.Names = network }, testutil.FaultEnv(
				testutil.FaultSpec("new.opened", "exit:3@"+filepath.Join(fail, "exit"), ""),
				testutil.FaultSpec("new.opened", "kill@"+filepath.Join(fail, "opened"), ""),
				testutil.FaultSpec("new.prepared", "kill@"+filepath.Join(fail, "prepared"), ""),
				testutil.FaultSpec("new.welcomed", "kill@"+filepath.Join(fail, "welcomed"), "")))
			a := startAsking(t, r, clients)
			for _, how := range []string{"exit", "opened", "prepared", "welcomed", "exit"} {
				failAt(t, r, filepath.Join(fail, how))
			}
			r.Change(func(s *plan.Settings) { s.Bad = plan.RefuseValueAtCommit }) // by then the old process has stopped reading
			_, done := r.Soaking()
			r.Ask("POST", "/commit")
			if got := <-done; got.Phase != "commit" {
				t.Errorf("upgrade: %+v", got)
			}
			r.Change(func(s *plan.Settings) { s.Bad = "" })
			for range aborted {
				_, done := r.Soaking()
				a.waitAnswers(t, clients)
				r.Ask("POST", "/abort")
				<-done
			}
			for n := range good {
				r.UpgradeNow()
				testutil.Until(t, patience, "the new generation answers", func() bool { return a.seen(fmt.Sprint("g", n+2)) })
			}
			t.Logf("%d questions", a.end())
			r.WaitFamily(t, 1, patience)
		})
	}
}

// failAt makes an upgrade that fails while the file exists.
func failAt(t *testing.T, r *testclient.Service, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := r.Ask("POST", "/upgrade"); a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

// Only the old process reads before the commit, and only the new process reads after the commit.
func TestOneProcessReadsDatagrams(t *testing.T) {
	for _, network := range []plan.Names{plan.NamesUDP, plan.NamesUnix} {
		t.Run(string(network), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { long(s); s.Names = network })
			_, done := r.Soaking()
			r.DialTo("g2") // g2 already accepts connections
			c := newResolver(t, r)
			c.mustAsk(t, 300, "g1")
			r.Ask("POST", "/commit")
			<-done
			c.mustAsk(t, 300, "g2")
		})
	}
}

func (c *resolver) mustAsk(t *testing.T, times int, by string) {
	t.Helper()
	for range times {
		if got, err := c.ask("name"); err != nil || got != by {
			t.Fatalf("%s answers, %v: want %s", got, err, by)
		}
	}
}

// The old process answers all datagrams that it has read, even long after the handover.
func TestOldProcessAnswersTheDatagramsItHasRead(t *testing.T) {
	for _, network := range []plan.Names{plan.NamesUDP, plan.NamesUnix} {
		t.Run(string(network), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Names = network })
			var held []*resolver
			for range 10 {
				held = append(held, newResolver(t, r))
				if err := held[len(held)-1].send("hold"); err != nil {
					t.Fatal(err)
				}
			}
			fresh := newResolver(t, r)
			fresh.mustAsk(t, 1, "g1") // so g1 has also read the datagrams before
			r.Upgrade()
			fresh.mustAsk(t, 100, "g2")
			r.Touch("release")
			for _, c := range held {
				if by, err := c.answer("hold"); err != nil || by != "g1" {
					t.Errorf("%s answers, %v", by, err)
				}
			}
		})
	}
}

// If the old process is killed, the candidate reads the datagrams that the old process has not read.
func TestDatagramsSurviveTheOldProcess(t *testing.T) {
	for _, network := range []plan.Names{plan.NamesUDP, plan.NamesUnix} {
		t.Run(string(network), func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, "old.opened", "stop")
			r := testclient.Start(t, func(s *plan.Settings) { s.Names = network }, f.Env)
			done := r.BeginUpgrade()
			testutil.Until(t, patience, "the old process stands still", r.Frozen)
			c := newResolver(t, r)
			if err := c.send("name"); err != nil {
				t.Fatal(err)
			}
			_ = syscall.Kill(r.Faulted(), syscall.SIGKILL)
			<-done
			if by, err := c.answer("name"); err != nil || by != "g2" {
				t.Errorf("%s answers, %v", by, err)
			}
		})
	}
}
