//go:build linux

package upgrade_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// A smoke test reaches the candidate's real handler over private connections, and no user reaches the candidate. If the smoke
// test fails, no user has seen the release.
func TestFailedSmokeTestReachesNoUser(t *testing.T) {
	for smoke, reason := range map[plan.SmokeTest]string{
		plan.SmokeFails: "smoke test", plan.SmokePanics: "the smoke test fell over", plan.SmokeAsks404: "the candidate g2 answers: 404",
	} {
		t.Run(string(smoke), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Smoke = smoke })
			l := r.Load(smallLoad)
			for range 3 {
				r.MustFail("smoke", reason)
			}
			report := l.Stop()
			if l.Seen("g2") {
				t.Error("a user has seen the release")
			}
			testutil.Account(t, report, filepath.Join(r.Dir, "journal")).MustBeClean(t)
			r.Change(func(s *plan.Settings) { s.Smoke = plan.SmokePasses })
			r.Upgrade()
		})
	}
}

// After a smoke test without an error the upgrade goes on. Connections that the smoke test has left open delay nothing.
func TestSmokeTestThatIsContent(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		r := testclient.Start(t, func(s *plan.Settings) {
			s.Smoke = plan.SmokePasses
			if s.Network = network; network == "unix" {
				s.Addr = filepath.Join(filepath.Dir(s.PIDFile), "web.sock")
			}
		})
		l := r.Load(smallLoad)
		for range 3 {
			r.Upgrade()
		}
		testutil.Until(t, patience, "the last generation answers", func() bool { return l.Seen("g4") })
		r.Account(l).MustBeClean(t)
		r.WaitFamily(t, 1, patience)
	}
}

// A private connection to a listener that does not exist is refused, and so is a private connection outside of the smoke test.
// The error has the name of the listener.
func TestPrivateConnectionsAreRefusedByName(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Smoke = plan.SmokeMisdials })
	r.Upgrade() // the smoke test itself checks the errors
}

// After the smoke test no private connections can be made, because the candidate serves users.
func TestPrivateConnectionsEndWithTheSmokeTest(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Smoke, s.Soak = plan.SmokeKeeps, time.Minute })
	done := r.BeginUpgrade()
	r.WaitPhase("soak")
	if a := r.Ask("POST", "/dial-late"); !strings.Contains(a.Error, "Smoke or Bake has returned") {
		t.Errorf("dial during the soak: %+v", a)
	}
	r.Ask("POST", "/commit")
	<-done
}

// A smoke test that hangs does not hold up the end of the upgrade, after the death of the candidate or an abort.
func TestSmokeTestThatHangsIsLeft(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Smoke = plan.SmokeHangs })
	done := r.BeginUpgrade()
	r.WaitPhase("smoke")
	if a := r.Ask("POST", "/commit"); !a.Is(upgrade.ErrNotReady) {
		t.Errorf("commit during the smoke test: %+v", a)
	}
	r.Ask("POST", "/abort")
	if a := <-done; a.Phase != "smoke" || !a.Is(upgrade.ErrAborted) {
		t.Errorf("aborted smoke test: %+v", a)
	}
	done = r.BeginUpgrade()
	r.WaitPhase("smoke")
	_ = syscall.Kill(r.Candidate(), syscall.SIGKILL)
	if a := <-done; a.Phase != "smoke" || !strings.Contains(a.Reason, "killed") {
		t.Errorf("smoke test of a candidate that was killed: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
}

// A rehearsal goes on until the smoke test has ended, and leaves no trace: no user has reached the candidate, and files, counts
// and kept values are unchanged.
func TestRehearsalLeavesNoTrace(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Smoke = plan.SmokeAdds }) // it changes the candidate's state
	l := r.Load(smallLoad)
	r.MustAdd(1, "g1")
	if a := r.Ask("POST", "/rehearse"); !a.Committed { // committed means here that there was no error
		t.Fatalf("rehearsal: %+v", a)
	}
	before, were := r.Ask("GET", "/status"), files(t, r)
	for range 10 {
		if a := r.Ask("POST", "/rehearse"); !a.Committed || a.Status.Last.Committed || a.Status.Last.Kind != "rehearsal" {
			t.Fatalf("rehearsal: %+v, last %+v", a, a.Status.Last)
		}
	}
	r.WaitFamily(t, 1, patience)
	testutil.Until(t, patience, "the counts are as before", func() bool {
		a := r.Ask("GET", "/status")
		return a.FDs <= before.FDs && a.Goroutines <= before.Goroutines && a.Children == before.Children
	})
	if now := files(t, r); !slices.Equal(now, were) {
		t.Errorf("files: %v, were %v", now, were)
	}
	if r.MainPID() != r.PID() {
		t.Error("the pid file names another process")
	}
	r.MustAdd(2, "g1")
	if l.Seen("g2") {
		t.Error("a user has met the candidate")
	}
	r.Account(l).MustBeClean(t)
}

func files(t *testing.T, r *testclient.Service) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A rehearsal returns the error with which an upgrade would have failed.
func TestRehearsalFindsWhatIsWrong(t *testing.T) {
	for bad, c := range map[plan.Misbehaviour]struct{ phase, reason string }{
		plan.ExitAtStart: {"start", "exit status 7"}, plan.CheckFails: {"check", "the database is not there"},
		plan.CheckCrashes: {"check", "a bug in the new release"}, plan.RefuseValue: {"check", `keep "value" refuses`},
	} {
		t.Run(string(bad), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Bad = bad })
			if a := r.Ask("POST", "/rehearse"); a.Committed || a.Phase != c.phase || !strings.Contains(a.Reason, c.reason) {
				t.Errorf("rehearsal: %+v", a)
			}
			r.WaitFamily(t, 1, patience)
		})
	}
}

// A program with tableflip only cannot be rehearsed, because its Ready byte is its commit.
func TestPlainProgramCannotBeRehearsed(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, wrappers)
	r.Flip(true)
	if a := r.Ask("POST", "/rehearse"); a.Committed || a.Phase != "smoke" || !strings.Contains(a.Reason, "tableflip") {
		t.Errorf("rehearsal: %+v", a)
	}
	l := r.Load(smallLoad)
	r.Flip(false)
	r.SignalMain(syscall.SIGHUP) // tableflip has removed the path of the admin socket
	testutil.Until(t, patience, "the next generation answers", func() bool { return l.Seen("g2") })
	r.Account(l).MustBeClean(t)
}
