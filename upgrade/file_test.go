//go:build linux

package upgrade_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
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
)

// put makes the service's executable a file of its own with this content.
func (r *running) put(name string, mode os.FileMode, content []byte) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, content, mode); err != nil {
		r.t.Fatal(err)
	}
	r.linkTo(path)
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

// nextBuild is the test binary with a byte more.
func nextBuild(t *testing.T) []byte { return append(readAll(t, testBinary(t)), 'x') }

// toTheFile asks for an upgrade as Upgrade makes it: not to any file.
func (r *running) toTheFile() answer {
	r.t.Helper()
	return r.ask("POST", "/upgrade-to-the-file")
}

// mustRefuse asks for an upgrade that must end before a process is started.
func (r *running) mustRefuse(reason string) answer {
	r.t.Helper()
	a := r.toTheFile()
	r.mustNotHaveStarted(a.Reason, reason)
	if a.Committed || a.Phase != "start" || a.PID != 0 {
		r.t.Errorf("upgrade: %+v", a)
	}
	return a
}

func (r *running) mustNotHaveStarted(got, want string) {
	r.t.Helper()
	if !strings.Contains(got, want) {
		r.t.Errorf("%q, want %q", got, want)
	}
	if strings.Contains(r.Output(), "started a new process") {
		r.t.Error("a process was started")
	}
}

// The build that runs is not started by Upgrade, under whatever name; Restart and SIGHUP start it again.
func TestSameBuildIsRefusedUnlessMeant(t *testing.T) {
	for _, copied := range []bool{false, true} {
		t.Run(fmt.Sprint("copied ", copied), func(t *testing.T) {
			t.Parallel()
			r := startService(t, nil)
			l := r.load(smallLoad)
			if copied {
				r.put("another-name", 0o755, readAll(t, testBinary(t)))
			}
			if a := r.mustRefuse("is the build that is running"); !a.SameBuild {
				t.Errorf("upgrade: %+v", a)
			}
			r.mustRecover(l, 1)
			r.signalMain(syscall.SIGHUP)
			r.waitServing(3, 0)
			r.account(l).MustBeClean(t)
		})
	}
}

// One byte makes another build.
func TestOtherBuildIsUpgradedTo(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	path := r.put("next", 0o755, nextBuild(t))
	if a := r.toTheFile(); !a.Committed {
		t.Fatalf("upgrade: %s", a.Error)
	}
	r.waitServing(2, 0)
	if a := r.toTheFile(); !a.SameBuild { // now it is the one that runs
		t.Errorf("upgrade: %+v", a)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.put("again", 0o755, nextBuild(t))
	if a := r.toTheFile(); !a.SameBuild { // even when its file is deleted
		t.Errorf("upgrade: %+v", a)
	}
}

// A Go program that could not take over is refused by name before it is started.
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
			r := startService(t, nil)
			l := r.load(smallLoad)
			r.linkTo(fiveLines(t, c.goarch))
			r.mustRefuse(c.reason)
			r.mustNotHaveStarted(r.hangup(), c.reason)
			r.mustNotHaveStarted(r.ask("POST", "/upgrade").Reason, c.reason)
			r.linkTo(testBinary(t))
			r.mustRecover(l, 1)
			r.account(l).MustBeClean(t)
		})
	}
}

// hangup asks for an upgrade by a signal and returns why it failed.
func (r *running) hangup() (reason string) {
	r.t.Helper()
	before := r.ask("GET", "/status").Status.Last.At
	r.signalMain(syscall.SIGHUP)
	testutil.Until(r.t, patience, "the outcome of the signal", func() bool {
		last := r.ask("GET", "/status").Status.Last
		reason = last.Reason
		return last.At.After(before)
	})
	return reason
}

// fiveLines builds a program of a module of its own.
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

// Another program that could take over is not what Upgrade and SIGHUP are for, and Restart is.
func TestOtherProgramNeedsARestart(t *testing.T) {
	t.Parallel()
	const other = "midair/upgrade/testdata/other, and github.com/midair-go/midair/upgrade.test is running: if that is meant, use Restart"
	r := startService(t, nil)
	l := r.load(smallLoad)
	r.linkTo(testutil.Build(t, "./testdata/other", ""))
	r.mustRefuse(other)
	r.mustNotHaveStarted(r.hangup(), other)
	r.mustFail("start", "it ended before upgrade.New: exit status 3")
	r.linkTo(testBinary(t))
	r.mustRecover(l, 1)
	r.account(l).MustBeClean(t)
}

// What cannot be told from the file is started: a script that becomes the program, and a file that may only be executed.
func TestOpaqueFileIsStarted(t *testing.T) {
	for _, c := range []struct {
		name    string
		mode    os.FileMode
		content []byte
	}{
		{"script", 0o755, []byte("#!/bin/sh\nexec " + testBinary(t) + ` "$@"` + "\n")},
		{"execute only", 0o111, nextBuild(t)}, // root may read it all the same; see also TestExecuteOnlyFile
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := startService(t, nil)
			l := r.load(smallLoad)
			r.put("opaque", c.mode, c.content)
			if a := r.toTheFile(); !a.Committed {
				t.Fatalf("upgrade: %s", a.Error)
			}
			r.waitServing(2, 0)
			r.account(l).MustBeClean(t)
		})
	}
}

// A file that could block its reader for ever is not opened.
func TestPipeIsNoExecutable(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	path := filepath.Join(r.dir, "fifo")
	if err := syscall.Mkfifo(path, 0o755); err != nil {
		t.Fatal(err)
	}
	r.linkTo(path)
	r.mustRefuse("is no regular file")
}

// Verify decides before anything is started.
func TestVerifyRefuses(t *testing.T) {
	for verify, reason := range map[string]string{
		"error": "Options.Verify: the signature is wrong", "panic": "Options.Verify: panic: no key",
		"exit": "Options.Verify has ended its goroutine", "hang": "Options.Verify took longer than 1.5s",
	} {
		t.Run(verify, func(t *testing.T) {
			t.Parallel()
			r := startService(t, func(s *settings) { impatient(s); s.Verify = verify })
			l := r.load(smallLoad)
			r.put("next", 0o755, nextBuild(t))
			a := r.mustRefuse(reason)
			if path := filepath.Join(r.dir, "exe"); verify != "hang" && verify != "exit" && !strings.Contains(a.Reason, path) {
				t.Errorf("%q does not name %s", a.Reason, path)
			}
			if st := r.ask("GET", "/status").Status; st.State != "serving" || st.Generation != 1 {
				t.Errorf("afterwards: %+v", st)
			}
			r.account(l).MustBeClean(t)
		})
	}
}

// A Verify that hangs keeps neither an abort nor a stop of the service waiting.
func TestHangingVerifyCanBeAborted(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Timeout, s.Verify = 3*time.Minute, "hang" })
	for range 2 {
		done := make(chan answer, 1)
		go func() {
			a, _ := r.tryAsk(context.Background(), "POST", "/upgrade")
			done <- a
		}()
		r.waitPhase("start")
		r.ask("POST", "/abort")
		if a := <-done; !a.Aborted || a.Phase != "start" {
			t.Errorf("upgrade: %+v", a)
		}
	}
	go func() { _, _ = r.tryAsk(context.Background(), "POST", "/upgrade") }() // ends with the process
	r.waitPhase("start")
	r.signalMain(syscall.SIGTERM)
	if code, err := r.Wait(patience); err != nil || code != 0 {
		t.Errorf("exit %d, %v", code, err)
	}
}

// What Verify has seen is what runs, whatever becomes of the file meanwhile, and other programs can look at it too. The
// process is called by its program's name.
func TestVerifiedFileIsTheOneThatRuns(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Verify = "swap" })
	l := r.load(smallLoad)
	for n := range 3 {
		good := append(nextBuild(t), byte(n))
		r.put(fmt.Sprint("good", n), 0o755, good)
		if a := r.toTheFile(); !a.Committed {
			t.Fatalf("upgrade: %s", a.Error)
		}
		r.waitServing(n+2, 0)
		if runs := readAll(t, fmt.Sprintf("/proc/%d/exe", r.mainPID())); !bytes.Equal(runs, good) {
			t.Error("something else runs")
		}
		if comm := strings.TrimSpace(string(readAll(t, fmt.Sprintf("/proc/%d/comm", r.mainPID())))); comm != "exe" {
			t.Errorf("the process is called %q", comm)
		}
		if sum := string(readAll(t, filepath.Join(r.dir, "sum"))); sum != fmt.Sprintf("%x", sha256.Sum256(good)) {
			t.Errorf("another process has read %s", sum)
		}
	}
	r.account(l).MustBeClean(t)
}

// A script that was verified is the one that runs too.
func TestVerifiedScriptIsTheOneThatRuns(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Verify = "swap" })
	r.put("script", 0o755, []byte("#!/bin/sh\nexec "+testBinary(t)+` "$@"`+"\n"))
	if a := r.toTheFile(); !a.Committed {
		t.Fatalf("upgrade: %s", a.Error)
	}
	r.waitServing(2, 0)
	if !exists(filepath.Join(r.dir, "bad")) {
		t.Error("the file was not replaced")
	}
}

// verify is what Options.Verify of the service does.
func verify(how, dir, path string) error {
	switch how {
	case "error":
		return errors.New("the signature is wrong")
	case "panic":
		panic("no key")
	case "exit":
		runtime.Goexit()
	case "hang":
		select {}
	}
	out, err := exec.Command("cat", path).Output()
	sum := fmt.Sprintf("%x", sha256.Sum256(out))
	bad, link := filepath.Join(dir, "bad"), filepath.Join(dir, "exe")
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "sum"), []byte(sum), 0o600),
		os.WriteFile(bad, []byte("#!/bin/sh\nexit 9\n"), 0o755),
		os.Symlink(bad, link+".bad"), os.Rename(link+".bad", link))
}
