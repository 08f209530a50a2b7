package process_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/testutil"
)

// buildOf takes hold of what a process runs. The build is closed at the end of the test.
func buildOf(t testing.TB, pid int) *process.Build {
	t.Helper()
	b, err := process.BuildOf(pid, "v1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// Own is the build that this process runs, with the arguments that it was started with, whatever os.Args is by now.
func TestOwnBuildIsWhatRuns(t *testing.T) {
	args := slices.Clone(os.Args)
	t.Cleanup(func() { os.Args = args })
	os.Args = []string{"changed"}
	own, err := process.Own("v2")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if !slices.Equal(own.Args, args) || own.Version != "v2" || own.Env != nil {
		t.Errorf("%+v, want the arguments %q", own, args)
	}
	if by := buildOf(t, os.Getpid()); !own.Same(by) || !by.Same(own) || !slices.Equal(by.Args, args) {
		t.Errorf("by its pid it is %+v", by)
	}
	if !process.RunsOwnBuild(os.Getpid()) {
		t.Error("this process does not run its own build, it says")
	}
}

// A build that is held can be started again, with its arguments, although its file is gone and its process has ended.
func TestBuildOutlivesItsFile(t *testing.T) {
	path := copyFile(t, "/bin/sh", filepath.Join(t.TempDir(), "sh"), "")
	const script = "echo $0 $1 >&5; sleep 60"
	first := start(t, preflight(t, path, "-c", script, "name", "argument"), append(os.Environ(), "MIDAIR_MARK=1"))
	if got := first.line(); got != "name argument" {
		t.Fatalf("%q", got)
	}
	b := buildOf(t, first.PID)
	if !slices.Equal(b.Args, []string{path, "-c", script, "name", "argument"}) || !slices.Contains(b.Env, "MIDAIR_MARK=1") || b.Version != "v1" {
		t.Errorf("%q, %q, %s", b.Args, b.Env, b.Version)
	}
	if own := buildOf(t, os.Getpid()); b.Same(own) || process.RunsOwnBuild(first.PID) {
		t.Error("it is the build of this process")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	first.Kill()
	await(t, "the end", first.Exited)
	p, err := b.Program()
	if err != nil {
		t.Fatal(err)
	}
	second := start(t, p, os.Environ())
	p.Close()
	if got := second.line(); got != "name argument" {
		t.Errorf("%q", got)
	}
	if !b.Same(buildOf(t, second.PID)) {
		t.Error("another file was started")
	}
}

// A build belongs to its holder: a program of it has a descriptor of its own, and a build that is closed has none.
func TestProgramOfABuildHasItsOwnDescriptor(t *testing.T) {
	before := testutil.OpenFDs()
	own, err := process.Own("")
	if err != nil {
		t.Fatal(err)
	}
	p, err := own.Program()
	if err != nil {
		t.Fatal(err)
	}
	own.Close()
	if now := testutil.OpenFDs(); len(now) != len(before)+1 {
		t.Errorf("open descriptors: %q, before: %q", now, before)
	}
	if own.Same(own) {
		t.Error("a closed build is the same as another one")
	}
	if s := start(t, p, roleEnviron()); !process.RunsOwnBuild(s.PID) {
		t.Error("another build runs")
	} else {
		s.Kill()
		<-s.Exited
	}
	p.Close()
	if p, err := own.Program(); err == nil {
		p.Close()
		t.Error("a closed build is started again")
	}
	(*process.Build)(nil).Close()
}

// zombie returns a process that has ended and that nobody has waited for until the end of the test.
func zombie(t testing.TB) (pid int) {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	h, err := process.Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Wait(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// nobody is a number that no process has.
const nobody = 1<<22 + 1

// A process that has ended has no build, no parent and no environment, and nothing is kept open.
func TestEndedProcessHasNothing(t *testing.T) {
	for name, pid := range map[string]int{"zombie": zombie(t), "nobody": nobody} {
		before := testutil.OpenFDs()
		if b, err := process.BuildOf(pid, ""); b != nil || err == nil {
			t.Errorf("%s: build %v, %v", name, b, err)
		}
		if parent := process.ParentOf(pid); parent != 0 {
			t.Errorf("%s: parent %d", name, parent)
		}
		if env, _ := process.EnvironOf(pid); len(env) > 0 {
			t.Errorf("%s: environment %q", name, env)
		}
		if process.RunsOwnBuild(pid) {
			t.Errorf("%s: it runs the build of this process", name)
		}
		if now := testutil.OpenFDs(); len(now) != len(before) {
			t.Errorf("%s: open descriptors: %q, before: %q", name, now, before)
		}
	}
	if _, err := process.EnvironOf(nobody); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the environment of nobody: %v", err)
	}
	if !process.Catches(nobody, syscall.SIGHUP) {
		t.Error("nobody ends by a signal, it says")
	}
}

// The parent of a process and its environment are those that it was started with, an empty value and a missing one apart.
func TestParentAndEnvironmentAreTheKernels(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	cmd.Env = []string{"A=1", "EMPTY=", "B=two words"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if parent := process.ParentOf(cmd.Process.Pid); parent != os.Getpid() {
		t.Errorf("parent %d, want %d", parent, os.Getpid())
	}
	if env, err := process.EnvironOf(cmd.Process.Pid); err != nil || !slices.Equal(env, cmd.Env) {
		t.Errorf("%q, %v, want %q", env, err, cmd.Env)
	}
}

// Catches reports whether a signal would end a process.
func TestCatchesKnowsHandlers(t *testing.T) {
	for _, c := range []struct {
		script string
		usr1   bool
		usr2   bool
	}{
		{"echo up >&5; sleep 60", false, false},
		{"trap : USR1; echo up >&5; sleep 60", true, false},
		{"trap : USR1 USR2; echo up >&5; sleep 60", true, true},
	} {
		s := shell(t, c.script)
		s.line()
		if usr1, usr2 := process.Catches(s.PID, syscall.SIGUSR1), process.Catches(s.PID, syscall.SIGUSR2); usr1 != c.usr1 || usr2 != c.usr2 {
			t.Errorf("%s: SIGUSR1 %v, SIGUSR2 %v", c.script, usr1, usr2)
		}
	}
	if !process.Catches(os.Getpid(), syscall.SIGUSR1) {
		t.Error("a Go program seems to catch nothing")
	}
}

// A handle on a process ends with its number: the descriptor is close-on-exec, and closing it frees it.
func TestHandleKeepsNothing(t *testing.T) {
	before := testutil.OpenFDs()
	h, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if h.Ended() {
		t.Error("this process has ended, it says")
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := h.Signal(0); err == nil {
		t.Error("a closed handle signals")
	}
	if now := testutil.OpenFDs(); len(now) != len(before) {
		t.Errorf("open descriptors: %q, before: %q", now, before)
	}
}
