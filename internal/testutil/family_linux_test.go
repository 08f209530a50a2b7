package testutil_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// The descendants of a process stay its family after it has ended, and the end of the test kills them.
func TestFamilyOutlivesItsFirstProcess(t *testing.T) {
	var pids []int
	t.Run("family", func(t *testing.T) {
		p := testutil.Start(t, "tree", testutil.Cfg{Args: []string{"leave", "child", "middle", "child", "last"}})
		p.WaitOutput(patience, "[last]")
		if _, err := p.Wait(patience); err != nil {
			t.Fatal(err)
		}
		p.WaitFamily(t, 2, patience)
		pids = p.Family()
		if slices.Contains(pids, p.PID()) {
			t.Errorf("family %v contains %d, which has ended", pids, p.PID())
		}
	})
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("%d outlived its test", pid)
		}
	}
}

// An orphan that ends is waited for, so that whoever watches its pid sees it go.
func TestOrphanIsReaped(t *testing.T) {
	p := testutil.Start(t, "tree", testutil.Cfg{Args: []string{"leave", "child", "orphan"}})
	p.WaitOutput(patience, "[orphan]")
	if _, err := p.Wait(patience); err != nil {
		t.Fatal(err)
	}
	p.WaitFamily(t, 1, patience)
	pid := p.Family()[0]
	syscall.Kill(pid, syscall.SIGKILL)
	testutil.Until(t, patience, "the end of the orphan", func() bool { return !alive(pid) })
}

// An orphan that has left the session of its family is killed and waited for all the same.
func TestOrphanOfAnotherSessionIsReaped(t *testing.T) {
	var pid int
	t.Run("family", func(t *testing.T) {
		p := testutil.StartCommand(t, testutil.Cfg{}, "/bin/sh", "-c", "setsid sleep 1000 & echo started")
		p.WaitOutput(patience, "started")
		p.WaitFamily(t, 1, patience)
		pid = p.Family()[0]
	})
	testutil.Until(t, patience, "the end of the orphan", func() bool { return !alive(pid) })
}

// Two families do not mix.
func TestFamiliesAreApart(t *testing.T) {
	a := testutil.Start(t, "idle", testutil.Cfg{})
	b := testutil.Start(t, "idle", testutil.Cfg{})
	a.WaitFamily(t, 1, patience)
	b.WaitFamily(t, 1, patience)
	b.Kill()
	a.WaitFamily(t, 1, patience)
	b.WaitFamily(t, 0, patience)
}

// A family has as many live processes as asked for, or the test ends with their pids.
func TestWaitFamilyShowsPIDs(t *testing.T) {
	p := testutil.Start(t, "idle", testutil.Cfg{})
	p.WaitFamily(t, 1, patience)
	got := failure(t, func(t testing.TB) { p.WaitFamily(t, 2, 0) })
	if want := fmt.Sprintf("[%d], want 2", p.PID()); !strings.Contains(got, want) {
		t.Errorf("failure %q, want %q", got, want)
	}
}

// A program whose name looks like the fields that follow it is read all the same.
func TestFamilyReadsStrangeNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a) Z 1 (b")
	if err := os.Symlink("/bin/sh", path); err != nil {
		t.Fatal(err)
	}
	p := testutil.StartCommand(t, testutil.Cfg{}, path, "-c", "while :; do sleep 1000; done")
	p.WaitFamily(t, 2, patience)
}

// The children of os/exec keep their exit codes while orphans are reaped beside them.
func TestReaperLeavesOtherChildrenAlone(t *testing.T) {
	testutil.Start(t, "idle", testutil.Cfg{})
	for i := range 50 {
		p := testutil.StartCommand(t, testutil.Cfg{}, "/bin/sh", "-c", "sh -c 'exit 1' & exit 4")
		err := exec.Command("/bin/sh", "-c", "exit 5").Run()
		var exit *exec.ExitError
		if exit, _ = err.(*exec.ExitError); exit == nil || exit.ExitCode() != 5 {
			t.Fatalf("run %d: %v, want exit code 5", i, err)
		}
		if code, err := p.Wait(patience); code != 4 || err != nil {
			t.Fatalf("run %d: exit code %d, %v, want 4", i, code, err)
		}
	}
}

// A test process that dies without its cleanup takes its families with it.
func TestFamilyEndsWithTestProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := testutil.StartCommand(t, testutil.Cfg{Env: []string{"ABANDON=1"}}, self, "-test.run=^TestAbandonedByItsTest$", "-test.v")
	pid, err := strconv.Atoi(strings.TrimSpace(p.WaitOutput(patience, "abandoned ")))
	if err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(patience); code != 3 || err != nil {
		t.Errorf("exit code %d, %v, want 3", code, err)
	}
	testutil.Until(t, patience, fmt.Sprintf("the end of %d and its guard", pid), func() bool {
		reapZombies()
		return len(testutil.ChildProcesses()) == 0
	})
}

// reapZombies waits for the children of another test process, which the families of this one do not cover.
func reapZombies() {
	for pid, command := range testutil.ChildProcesses() {
		if command == "(zombie)" {
			syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// TestAbandonedByItsTest is the other process of TestFamilyEndsWithTestProcess.
func TestAbandonedByItsTest(t *testing.T) {
	if os.Getenv("ABANDON") == "" {
		t.Skip("runs in a process of its own")
	}
	p := testutil.Start(t, "idle", testutil.Cfg{})
	p.WaitOutput(patience, "ready")
	fmt.Println("abandoned", p.PID())
	os.Exit(3)
}
