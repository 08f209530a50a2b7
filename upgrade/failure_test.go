//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// smallLoad is enough to have connections in every state at any moment.
var smallLoad = testutil.LoadOptions{KeepAlive: 6, New: 3, SlowEvery: 20}

// A new process that fails in any way before it was ready to serve costs no request. The error says in which phase and
// why, the old one serves on, and the next upgrade works.
func TestBadReleaseIsNeverNoticed(t *testing.T) {
	for _, c := range []struct {
		bad, phase, reason string
		change             func(*settings)
	}{
		{bad: "start", phase: "start", reason: "exit status 7"},
		{bad: "hang", phase: "start", reason: "did not get to upgrade.New within 1.5s", change: impatient},
		{bad: "check", phase: "check", reason: `check "good": the database is not there`},
		{bad: "check-panic", phase: "check", reason: "nil map"},
		{bad: "check-hang", phase: "check", reason: `check "good": context deadline exceeded`, change: impatient},
		{bad: "crash", phase: "check", reason: "a bug in the new release"},
		{bad: "listen", phase: "start", reason: "listen tcp 127.0.0.1:99999"},
		{bad: "serve", phase: "start", reason: "the server does not start"},
		{bad: "refuse-always", phase: "check", reason: `keep "value" refuses`},
		{bad: "bake error", phase: "bake", reason: "too many errors", change: func(s *settings) { s.Bake = "error" }},
		{bad: "bake panic", phase: "bake", reason: "the judge fell over", change: func(s *settings) { s.Bake = "panic" }},
	} {
		t.Run(c.bad, func(t *testing.T) {
			t.Parallel()
			r := startService(t, func(s *settings) {
				if c.change != nil {
					c.change(s)
				}
				if s.Bake == "" {
					s.Bad = c.bad
				}
			})
			l := r.load(smallLoad)
			r.mustFail(c.phase, c.reason)
			r.mustRecover(l, 1)
			r.account(l).MustBeClean(t)
		})
	}
}

func impatient(s *settings) { s.Timeout = 1500 * time.Millisecond }

// mustFail asks for an upgrade that has to end with the old process serving.
func (r *running) mustFail(phase, reason string) answer {
	r.t.Helper()
	before := r.mainPID()
	a := r.ask("POST", "/upgrade")
	if a.Committed || a.Phase != phase || !strings.Contains(a.Reason, reason) {
		r.t.Fatalf("upgrade: committed %v, phase %q, reason %q: want phase %q, reason with %q", a.Committed, a.Phase, a.Reason, phase, reason)
	}
	if now := r.mainPID(); now != before {
		r.t.Fatalf("the pid file names %d after the failure, not %d", now, before)
	}
	r.WaitFamily(r.t, 1, 20*time.Second)
	return a
}

// mustRecover upgrades to a good release after a failure.
func (r *running) mustRecover(l *testutil.Load, generation int) {
	r.t.Helper()
	r.change(func(s *settings) { s.Bad = ""; s.Bake = "" })
	if got := r.ask("GET", "/status").Status; got.Generation != generation || got.State != "serving" {
		r.t.Fatalf("after the failure: generation %d is %s, want %d serving", got.Generation, got.State, generation)
	}
	if r.set.Soak > time.Second {
		r.upgradeNow()
	} else {
		r.upgrade()
	}
	want := fmt.Sprint("g", generation+1)
	testutil.Until(r.t, 20*time.Second, want+" answers", func() bool { return l.Seen(want) })
	r.WaitFamily(r.t, 1, 30*time.Second)
}

// What is wrong with the file or the place is found before or at the start, and named.
func TestUnusableExecutableIsNamed(t *testing.T) {
	write := func(mode os.FileMode, content string) func(*running) {
		return func(r *running) {
			path := filepath.Join(r.dir, "broken")
			if err := os.WriteFile(path, []byte(content), mode); err != nil {
				r.t.Fatal(err)
			}
			r.linkTo(path)
		}
	}
	for _, c := range []struct {
		name, reason string
		spoil        func(*running)
	}{
		{"missing", "no such file", func(r *running) { r.linkTo(filepath.Join(r.dir, "nothing")) }},
		{"directory", "is a directory", func(r *running) { r.linkTo(r.dir) }},
		{"not executable", "not executable", write(0o600, "#!/bin/true\n")},
		{"not a program", "exec format error", write(0o700, "\x00\x01\x02")},
		{"other architecture", "exec format error", write(0o700, elfOfAnotherMachine())},
		{"interpreter missing", "no such file", write(0o700, "#!/nowhere/sh\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := startService(t, nil)
			l := r.load(smallLoad)
			c.spoil(r)
			r.mustFail("start", c.reason)
			r.linkTo(testBinary(t))
			r.mustRecover(l, 1)
			r.account(l).MustBeClean(t)
		})
	}
}

// elfOfAnotherMachine is the header of a program for a processor that this is not.
func elfOfAnotherMachine() string {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	h[16], h[18] = 2, 0xf3 // executable, RISC-V
	h[20], h[52] = 1, 64
	return string(h)
}

func TestRemovedStartDirectoryIsNamed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "wd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := startServiceIn(t, dir, nil)
	l := r.load(smallLoad)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	r.mustFail("start", "directory that the program was started in is gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r.mustRecover(l, 1)
	r.account(l).MustBeClean(t)
}

// A candidate that cannot write the pid file is not prepared.
func TestUnwritablePIDFileFailsTheCheck(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) {
		dir := filepath.Join(filepath.Dir(s.PIDFile), "run")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.PIDFile = filepath.Join(dir, "pid")
	})
	l := r.load(smallLoad)
	run := filepath.Dir(r.set.PIDFile)
	if err := os.Rename(run, run+".away"); err != nil {
		t.Fatal(err)
	}
	if a := r.ask("POST", "/upgrade"); a.Committed || a.Phase != "check" || !strings.Contains(a.Reason, "pid file") {
		t.Fatalf("upgrade: %+v", a)
	}
	if err := os.Rename(run+".away", run); err != nil {
		t.Fatal(err)
	}
	r.mustRecover(l, 1)
	r.account(l).MustBeClean(t)
}

// Failed upgrades leave no descriptor, no goroutine and no process behind, whether or not memory is collected.
func TestFailedUpgradesLeaveNothing(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "start" })
	r.mustFail("start", "exit status 7")
	before := r.ask("GET", "/status")
	for n := range 20 {
		r.change(func(s *settings) { s.Bad = []string{"start", "check", "refuse-always", "crash"}[n%4] })
		if a := r.ask("POST", "/upgrade"); a.Committed {
			t.Fatalf("upgrade: %+v", a)
		}
	}
	testutil.Until(t, 20*time.Second, "everything is as before", func() bool {
		a := r.ask("GET", "/status")
		return a.FDs <= before.FDs && a.Goroutines <= before.Goroutines && a.Children == before.Children
	})
}

// A reason of any length gets to the old process, which then serves on.
func TestLongReasonIsNoDeath(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "check-long" })
	l := r.load(smallLoad)
	r.mustFail("check", strings.Repeat("x", 1000))
	r.mustRecover(l, 1)
	r.account(l).MustBeClean(t)
}
