package process_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/testutil"
)

// Own returns the build that this process runs, with the arguments at the start of this process, even if os.Args was changed.
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
	if !process.RunsOwnBuild(os.Getpid()) {
		t.Error("this process does not run its own build, it says")
	}
}

// A build can be started again with its arguments, even if its file was removed and its process has ended.
func TestBuildOutlivesItsFile(t *testing.T) {
	path := copyFile(t, "/bin/sh", filepath.Join(t.TempDir(), "sh"), "")
	const script = "echo $0 $1 >&5; sleep 60"
	p := preflight(t, path, "-c", script, "name", "argument")
	b, err := p.Build([]string{"MIDAIR_MARK=1"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	first := start(t, p, append(os.Environ(), "MIDAIR_MARK=1"))
	if got := first.line(); got != "name argument" {
		t.Fatalf("%q", got)
	}
	b.Started(first.PID)
	if !slices.Equal(b.Args, []string{path, "-c", script, "name", "argument"}) || !slices.Equal(b.Env, []string{"MIDAIR_MARK=1"}) || b.IsScript() {
		t.Errorf("%q, %q, a script: %v", b.Args, b.Env, b.IsScript())
	}
	if process.RunsOwnBuild(first.PID) {
		t.Error("it is the build of this process")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	first.Kill()
	await(t, "the end", first.Exited)
	again, err := b.Program()
	if err != nil {
		t.Fatal(err)
	}
	second := start(t, again, os.Environ())
	again.Close()
	if got := second.line(); got != "name argument" {
		t.Errorf("%q", got)
	}
	before := b.Exe
	if b.Started(second.PID); b.Exe != before {
		t.Error("another file was started")
	}
}

// After Started, a build has the executable that was started, even if the file was replaced just before the start. The build of
// a script keeps the script, and not the interpreter, even if the script starts a helper first.
func TestBuildIsWhatWasStarted(t *testing.T) {
	path := copyFile(t, "/bin/sh", filepath.Join(t.TempDir(), "sh"), "")
	p := preflight(t, path, "-c", "echo up >&5; sleep 60")
	b, err := p.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	old := b.Exe
	copyFile(t, "/bin/sh", path+".new", "")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	s := start(t, p, os.Environ())
	s.line()
	want, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b.Started(s.PID)
	if got, err := b.Exe.Stat(); err != nil || !os.SameFile(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := old.Stat(); err == nil {
		t.Error("what was not started is open")
	}
	script := filepath.Join(t.TempDir(), "script")
	writeProgram(t, script, "#!/bin/sh\nsleep 60 &\necho up >&5\nwait\n")
	p = preflight(t, script)
	if b, err = p.Build(nil); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	held := b.Exe
	s = start(t, p, os.Environ())
	s.line()
	if b.Started(s.PID); b.Exe != held || !b.IsScript() {
		t.Errorf("a script: %v, and what runs it is held: %v", b.IsScript(), b.Exe != held)
	}
}

// The program of a build has a descriptor of its own, so it can be started after the build was closed. A closed build has no
// descriptor.
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

// zombie returns a process that has ended, and is reaped only at the end of the test.
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

// nobody is a pid that no process has.
const nobody = 1<<22 + 1

// A process that has ended runs no build. The question leaves no descriptor open.
func TestEndedProcessHasNothing(t *testing.T) {
	for name, pid := range map[string]int{"zombie": zombie(t), "nobody": nobody} {
		before := testutil.OpenFDs()
		if process.RunsOwnBuild(pid) {
			t.Errorf("%s: it runs the build of this process", name)
		}
		if now := testutil.OpenFDs(); len(now) != len(before) {
			t.Errorf("%s: open descriptors: %q, before: %q", name, now, before)
		}
	}
	if !process.Catches(nobody, syscall.SIGHUP) {
		t.Error("nobody ends by a signal, it says")
	}
}

// Catches reports whether a process has a handler for a signal.
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

// Close closes the descriptor of a handle, and a closed handle sends no signal.
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
