//go:build linux

package upgrade_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A smoke test reaches the candidate's real handler over private connections, and no user does. If it fails, nobody has
// seen the release.
func TestFailedSmokeTestReachesNoUser(t *testing.T) {
	for smoke, reason := range map[string]string{
		"error": "smoke test", "panic": "the smoke test fell over", "answer": "the candidate g2 answers: 404",
	} {
		t.Run(smoke, func(t *testing.T) {
			t.Parallel()
			r := startService(t, func(s *settings) { s.Smoke = smoke })
			l := r.load(smallLoad)
			for range 3 {
				r.mustFail("smoke", reason)
			}
			report := l.Stop()
			if l.Seen("g2") {
				t.Error("a user has seen the release")
			}
			testutil.Account(t, report, filepath.Join(r.dir, "journal")).MustBeClean(t)
			r.change(func(s *settings) { s.Smoke = "ok" })
			r.upgrade()
		})
	}
}

// A smoke test that is content lets the upgrade go on; connections that it has left open do not delay anything.
func TestSmokeTestThatIsContent(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		r := startService(t, func(s *settings) {
			s.Smoke = "ok"
			if s.Network = network; network == "unix" {
				s.Addr = filepath.Join(filepath.Dir(s.PIDFile), "web.sock")
			}
		})
		l := r.load(smallLoad)
		for range 3 {
			r.upgrade()
		}
		testutil.Until(t, patience, "the last generation answers", func() bool { return l.Seen("g4") })
		r.account(l).MustBeClean(t)
		r.WaitFamily(t, 1, patience)
	}
}

// Private connections to what is not there, and outside of the smoke test, are refused with the name.
func TestPrivateConnectionsAreRefusedByName(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Smoke = "refusals" })
	r.upgrade() // the smoke test itself looks at the errors
}

// A smoke test that hangs ends with its candidate, and with an abort.
func TestSmokeTestThatHangsIsLeft(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Smoke = "forever" })
	done := r.beginUpgrade()
	r.waitPhase("smoke")
	if a := r.ask("POST", "/commit"); !a.NotReady {
		t.Errorf("commit during the smoke test: %+v", a)
	}
	r.ask("POST", "/abort")
	if a := <-done; a.Phase != "smoke" || !a.Aborted {
		t.Errorf("aborted smoke test: %+v", a)
	}
	done = r.beginUpgrade()
	r.waitPhase("smoke")
	_ = syscall.Kill(r.ask("GET", "/status").Status.Candidate.PID, syscall.SIGKILL)
	if a := <-done; a.Phase != "smoke" || !strings.Contains(a.Reason, "killed") {
		t.Errorf("smoke test of a candidate that was killed: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
}

// A rehearsal goes all the way to the smoke test and leaves no trace: no user has met the candidate, the files and counts
// are as before, and what is kept is what it was.
func TestRehearsalLeavesNoTrace(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Smoke = "add" }) // it changes the candidate's state
	l := r.load(smallLoad)
	r.add(1, "g1")
	if a := r.ask("POST", "/rehearse"); !a.Committed { // no error
		t.Fatalf("rehearsal: %+v", a)
	}
	before, files := r.ask("GET", "/status"), r.files()
	for range 10 {
		if a := r.ask("POST", "/rehearse"); !a.Committed || a.Status.Last.Committed || a.Status.Last.Kind != "rehearsal" {
			t.Fatalf("rehearsal: %+v, last %+v", a, a.Status.Last)
		}
	}
	r.WaitFamily(t, 1, patience)
	testutil.Until(t, patience, "the counts are as before", func() bool {
		a := r.ask("GET", "/status")
		return a.FDs <= before.FDs && a.Goroutines <= before.Goroutines && a.Children == before.Children
	})
	if now := r.files(); !slices.Equal(now, files) {
		t.Errorf("files: %v, were %v", now, files)
	}
	if r.mainPID() != r.PID() {
		t.Error("the pid file names another process")
	}
	r.add(2, "g1")
	if l.Seen("g2") {
		t.Error("a user has met the candidate")
	}
	r.account(l).MustBeClean(t)
}

func (r *running) files() (names []string) {
	r.t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A rehearsal says what an upgrade would have failed with.
func TestRehearsalFindsWhatIsWrong(t *testing.T) {
	for bad, c := range map[string]struct{ phase, reason string }{
		"start": {"start", "exit status 7"}, "check": {"check", "the database is not there"},
		"crash": {"check", "a bug in the new release"}, "refuse-always": {"check", `keep "value" refuses`},
	} {
		t.Run(bad, func(t *testing.T) {
			t.Parallel()
			r := startService(t, func(s *settings) { s.Bad = bad })
			if a := r.ask("POST", "/rehearse"); a.Committed || a.Phase != c.phase || !strings.Contains(a.Reason, c.reason) {
				t.Errorf("rehearsal: %+v", a)
			}
			r.WaitFamily(t, 1, patience)
		})
	}
}

// A program that knows tableflip only cannot be rehearsed: its Ready is its commit.
func TestPlainProgramCannotBeRehearsed(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	r.change(func(s *settings) { s.Plain = true })
	if a := r.ask("POST", "/rehearse"); a.Committed || a.Phase != "smoke" || !strings.Contains(a.Reason, "tableflip") {
		t.Errorf("rehearsal: %+v", a)
	}
	l := r.load(smallLoad)
	r.change(func(s *settings) { s.Plain = false })
	r.signalMain(syscall.SIGHUP) // tableflip has removed the path of the admin socket
	testutil.Until(t, patience, "the next generation answers", func() bool { return l.Seen("g2") })
	r.account(l).MustBeClean(t)
}
