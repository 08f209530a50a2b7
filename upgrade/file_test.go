//go:build linux

package upgrade_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// put writes a file with the given name and content, and makes it the service's executable.
func put(t *testing.T, r *testclient.Service, name string, mode os.FileMode, content []byte) string {
	t.Helper()
	path := filepath.Join(r.Dir, name)
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	r.LinkTo(path)
	return path
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// nextBuild returns the test binary with one more byte: another build.
func nextBuild(t *testing.T) []byte { return append(readAll(t, testclient.Binary(t)), 'x') }

// toTheFile asks for an upgrade by Upgrader.Upgrade, which refuses some files that Restart accepts.
func toTheFile(t *testing.T, r *testclient.Service) plan.Answer {
	t.Helper()
	return r.Ask("POST", "/upgrade-to-the-file")
}

// mustRefuse asks for an upgrade that must end before a process is started.
func mustRefuse(t *testing.T, r *testclient.Service, reason string) plan.Answer {
	t.Helper()
	a := toTheFile(t, r)
	mustNotHaveStarted(t, r, a.Reason, reason)
	if a.Committed || a.Phase != "start" || a.PID != 0 {
		t.Errorf("upgrade: %+v", a)
	}
	return a
}

func mustNotHaveStarted(t *testing.T, r *testclient.Service, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if strings.Contains(r.Output(), "started a new process") {
		t.Error("a process was started")
	}
}

// Upgrade refuses the build that runs, even if its file has another name. Restart and SIGHUP start the same build again.
func TestSameBuildIsRefusedUnlessMeant(t *testing.T) {
	for _, copied := range []bool{false, true} {
		t.Run(fmt.Sprint("copied ", copied), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, nil)
			l := r.Load(smallLoad)
			if copied {
				put(t, r, "another-name", 0o755, readAll(t, testclient.Binary(t)))
			}
			if a := mustRefuse(t, r, "is the build that is running"); !a.Is(upgrade.ErrSameBuild) {
				t.Errorf("upgrade: %+v", a)
			}
			r.MustRecover(l, 1)
			r.SignalMain(syscall.SIGHUP)
			r.WaitServing(3, 0)
			r.Account(l).MustBeClean(t)
		})
	}
}

// A file that differs in one byte is another build.
func TestOtherBuildIsUpgradedTo(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	path := put(t, r, "next", 0o755, nextBuild(t))
	if a := toTheFile(t, r); !a.Committed {
		t.Fatalf("upgrade: %s", a.Error)
	}
	r.WaitServing(2, 0)
	if a := toTheFile(t, r); !a.Is(upgrade.ErrSameBuild) { // now the file is the build that runs
		t.Errorf("upgrade: %+v", a)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	put(t, r, "again", 0o755, nextBuild(t))
	if a := toTheFile(t, r); !a.Is(upgrade.ErrSameBuild) { // the same build, although the file that was started is deleted
		t.Errorf("upgrade: %+v", a)
	}
}

// A Go program that cannot take over is refused before it is started, and the reason names the program.
func TestUnfitProgramIsNotStarted(t *testing.T) {
	foreign := "arm64"
	if runtime.GOARCH == foreign {
		foreign = "amd64"
	}
	for _, c := range []struct{ name, goarch, reason string }{
		{"without the library", runtime.GOARCH, "is example.com/five and does not use github.com/midair-go/midair"},
		{"for another machine", foreign, "is built for linux/" + foreign + ", this machine needs linux/" + runtime.GOARCH},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, nil)
			l := r.Load(smallLoad)
			r.LinkTo(fiveLines(t, c.goarch))
			mustRefuse(t, r, c.reason)
			mustNotHaveStarted(t, r, hangupFails(t, r), c.reason)
			mustNotHaveStarted(t, r, r.Ask("POST", "/upgrade").Reason, c.reason)
			r.LinkTo(testclient.Binary(t))
			r.MustRecover(l, 1)
			r.Account(l).MustBeClean(t)
		})
	}
}

// hangupFails asks for an upgrade by a signal and returns why it failed.
func hangupFails(t *testing.T, r *testclient.Service) (reason string) {
	t.Helper()
	before := r.Status().Last.At
	r.SignalMain(syscall.SIGHUP)
	testutil.Until(t, patience, "the outcome of the signal", func() bool {
		last := r.Status().Last
		reason = last.Reason
		return last.At.After(before)
	})
	return reason
}

// fiveLines builds a program of another module, without this library.
func fiveLines(t *testing.T, goarch string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":  "module example.com/five\n\ngo 1.26\n",
		"main.go": "package main\n\nfunc main() {\n\tprintln(`five lines`)\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", "five", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOARCH="+goarch, "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "five")
}

// Upgrade and SIGHUP refuse another program even if it could take over. Restart starts it.
func TestOtherProgramNeedsARestart(t *testing.T) {
	t.Parallel()
	const other = "midair/upgrade/testdata/other, and github.com/midair-go/midair/upgrade.test is running: if that is meant, use Restart"
	r := testclient.Start(t, nil)
	l := r.Load(smallLoad)
	r.LinkTo(testutil.Build(t, "./testdata/other", ""))
	mustRefuse(t, r, other)
	mustNotHaveStarted(t, r, hangupFails(t, r), other)
	r.MustFail("start", "it ended before upgrade.New: exit status 3")
	r.LinkTo(testclient.Binary(t))
	r.MustRecover(l, 1)
	r.Account(l).MustBeClean(t)
}

// A file that does not show its program is started with AllowWrapper: a script that executes the program, and a packed
// program. If a file may only be executed, but root can read it, no option is needed; see also TestExecuteOnlyFile.
func TestOpaqueFileIsStarted(t *testing.T) {
	for _, c := range []struct {
		name    string
		mode    os.FileMode
		content []byte
		change  func(*plan.Settings)
	}{
		{"script", 0o755, []byte("#!/bin/sh\nexec " + testclient.Binary(t) + ` "$@"` + "\n"), wrappers},
		{"packed", 0o755, append(readAll(t, testclient.Unmarked(t)), 'x'), wrappers},
		{"execute only", 0o111, nextBuild(t), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, c.change)
			l := r.Load(smallLoad)
			put(t, r, "opaque", c.mode, c.content)
			if a := toTheFile(t, r); !a.Committed {
				t.Fatalf("upgrade: %s", a.Error)
			}
			r.WaitServing(2, 0)
			r.Account(l).MustBeClean(t)
		})
	}
}

// A named pipe is not opened as an executable, because it could block its reader for ever.
func TestPipeIsNoExecutable(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	path := filepath.Join(r.Dir, "fifo")
	if err := syscall.Mkfifo(path, 0o755); err != nil {
		t.Fatal(err)
	}
	r.LinkTo(path)
	mustRefuse(t, r, "is no regular file")
}

// Verify decides before anything is started.
func TestVerifyRefuses(t *testing.T) {
	for verify, reason := range map[plan.Verification]string{
		plan.VerifyFails: "Options.Verify: the signature is wrong", plan.VerifyPanics: "Options.Verify: panic: no key",
		plan.VerifyExits: "Options.Verify has ended its goroutine", plan.VerifyHangs: "Options.Verify took longer than 4s",
	} {
		t.Run(string(verify), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				if s.Verify = verify; verify == plan.VerifyHangs {
					impatient(s)
				}
			})
			l := r.Load(smallLoad)
			put(t, r, "next", 0o755, nextBuild(t))
			a := mustRefuse(t, r, reason)
			if path := filepath.Join(r.Dir, "exe"); verify != plan.VerifyHangs && verify != plan.VerifyExits && !strings.Contains(a.Reason, path) {
				t.Errorf("%q does not name %s", a.Reason, path)
			}
			if st := r.Status(); st.State != "serving" || st.Generation != 1 {
				t.Errorf("afterwards: %+v", st)
			}
			r.Account(l).MustBeClean(t)
		})
	}
}

// If Verify hangs, neither an abort nor a stop of the service waits for Verify.
func TestHangingVerifyCanBeAborted(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Timeout, s.Verify = 3*time.Minute, plan.VerifyHangs })
	for range 2 {
		done := r.BeginUpgrade()
		r.WaitPhase("start")
		r.Ask("POST", "/abort")
		if a := <-done; !a.Is(upgrade.ErrAborted) || a.Phase != "start" {
			t.Errorf("upgrade: %+v", a)
		}
	}
	r.BeginUpgrade() // ends with the process
	r.WaitPhase("start")
	r.SignalMain(syscall.SIGTERM)
	if code, err := r.Wait(patience); err != nil || code != 0 {
		t.Errorf("exit %d, %v", code, err)
	}
}

// The program that Verify has seen is the program that runs, even if another file takes its place during Verify. Other
// programs can read the file at the path that Verify gets. The process has the name of its program.
func TestVerifiedFileIsTheOneThatRuns(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Verify = plan.VerifySwaps })
	l := r.Load(smallLoad)
	for n := range 3 {
		good := append(nextBuild(t), byte(n))
		put(t, r, fmt.Sprint("good", n), 0o755, good)
		if a := toTheFile(t, r); !a.Committed {
			t.Fatalf("upgrade: %s", a.Error)
		}
		r.WaitServing(n+2, 0)
		if runs := readAll(t, fmt.Sprintf("/proc/%d/exe", r.MainPID())); !bytes.Equal(runs, good) {
			t.Error("something else runs")
		}
		if comm := strings.TrimSpace(string(readAll(t, fmt.Sprintf("/proc/%d/comm", r.MainPID())))); comm != "exe" {
			t.Errorf("the process is called %q", comm)
		}
		if sum := string(readAll(t, filepath.Join(r.Dir, "sum"))); sum != fmt.Sprintf("%x", sha256.Sum256(good)) {
			t.Errorf("another process has read %s", sum)
		}
	}
	r.Account(l).MustBeClean(t)
}

// A script that Verify has seen is the script that runs, even if another file takes its place.
func TestVerifiedScriptIsTheOneThatRuns(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { wrappers(s); s.Verify = plan.VerifySwaps })
	put(t, r, "script", 0o755, []byte("#!/bin/sh\nexec "+testclient.Binary(t)+` "$@"`+"\n"))
	if a := toTheFile(t, r); !a.Committed {
		t.Fatalf("upgrade: %s", a.Error)
	}
	r.WaitServing(2, 0)
	if !exists(filepath.Join(r.Dir, "bad")) {
		t.Error("the file was not replaced")
	}
}
