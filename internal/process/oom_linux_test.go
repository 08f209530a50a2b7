package process_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

func init() { obeyMore = obeyOOM }

// The orders about oom_score_adj that a child obeys, in addition to the orders that every child obeys.
const (
	asksProblem = 'p'
	restores    = 'o'
	undumpable  = 'd'
	dropsUser   = 'u'
	helps       = 'h' // starts a process that sleeps
	helpsFirst  = 'f' // starts a process that sets its oom_score_adj to 1000
	helpsLast   = 'l' // starts a process that sets its oom_score_adj to 0
	leaves      = 'g' // starts a process whose parent ends
	listsFirst  = 'k'
	showsCaps   = 'c'
)

// stranger is the id of a user without rights.
const stranger = 65534

// obeyOOM obeys an order in the child, and returns the answer.
func obeyOOM(what byte) string {
	switch what {
	case asksProblem:
		return fmt.Sprint(process.OOMProblem())
	case restores:
		return fmt.Sprint(process.RestoreOOM())
	case undumpable:
		return fmt.Sprint(unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	case dropsUser:
		return fmt.Sprint(syscall.Setuid(stranger))
	case helps:
		return sleeps("")
	case helpsFirst:
		return sleeps("echo 1000 >/proc/self/oom_score_adj;")
	case helpsLast:
		return sleeps("echo 0 >/proc/self/oom_score_adj;")
	case leaves:
		out, err := exec.Command("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!").Output()
		return fmt.Sprint(strings.TrimSpace(string(out)), " ", err)
	case listsFirst:
		return fmt.Sprint(process.KilledFirst())
	case showsCaps:
		return effective("/proc/self/status") + effective("/proc/thread-self/status")
	}
	return "unknown"
}

// sleeps starts a shell that executes the commands in before and then sleeps. The result is the pid and the error.
func sleeps(before string) string {
	cmd := exec.Command("sh", "-c", before+"exec sleep 60")
	err := cmd.Start()
	return fmt.Sprint(cmd.Process.Pid, err)
}

// effective returns the effective capabilities from a status file of /proc.
func effective(path string) string {
	b, _ := os.ReadFile(path)
	_, caps, _ := strings.Cut(string(b), "CapEff:")
	caps, _, _ = strings.Cut(caps, "\n")
	return strings.TrimSpace(caps)
}

// say gives an order to a child, and returns the answer.
func (s *started) say(what byte) string {
	s.t.Helper()
	s.tell(what)
	return s.line()
}

// victim returns oom_score_adj of a process.
func victim(t testing.TB, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// ownVictim returns oom_score_adj of this process. It skips the test if the value is 1000, which is the value of a candidate.
func ownVictim(t testing.TB) string {
	t.Helper()
	own := victim(t, os.Getpid())
	if own == "1000" {
		t.Skip("NOT RUN: this process is to be killed first itself")
	}
	return own
}

// hasResource reports whether this process could lower any oom_score_adj.
func hasResource(t testing.TB) bool {
	t.Helper()
	caps, err := strconv.ParseUint(effective("/proc/self/status"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return caps&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// A child has oom_score_adj 1000 from its start until RestoreOOM, even if the child is not dumpable or changes its user.
// RestoreOOM writes the old value back once. If this process has CAP_SYS_RESOURCE, the child has the capability too when it
// writes 1000. The child that changes its user shows that this write has not raised the minimum: otherwise the child could not
// write the old value back.
func TestCandidateIsKilledFirst(t *testing.T) {
	own := ownVictim(t)
	if os.Geteuid() == 0 && !hasResource(t) {
		t.Log("NOT RUN with CAP_SYS_RESOURCE, which root does not have here")
	}
	for _, c := range []struct {
		name   string
		orders string
		root   bool
	}{
		{"as it is", "", false},
		{"not dumpable", string(undumpable), false},
		{"another user", string(dropsUser), true},
		{"no rights from the start", string(undumpable), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("NOT RUN: only root can become another user")
			}
			program := ownProgram(t)
			if strings.HasPrefix(c.name, "no rights") {
				program = preflight(t, testutil.Program(t, "setpriv", "util-linux"), "--reuid="+strconv.Itoa(stranger), "--clear-groups", everybodysProgram(t))
			}
			child := start(t, program, roleEnviron())
			child.report()
			if got := child.say(asksProblem); got != "<nil>" || victim(t, child.PID) != "1000" {
				t.Errorf("started: %s, %s", victim(t, child.PID), got)
			}
			for _, order := range []byte(c.orders) {
				if got := child.say(order); got != "<nil>" {
					t.Fatalf("order %c: %s", order, got)
				}
			}
			if got := child.say(restores); got != "true <nil>" || victim(t, child.PID) != own {
				t.Errorf("put back: %s, %s; want %s", victim(t, child.PID), got, own)
			}
			if got := child.say(restores); got != "false <nil>" {
				t.Errorf("put back again: %s", got)
			}
			if now := ownVictim(t); now != own {
				t.Errorf("this process: %s, it was %s", now, own)
			}
		})
	}
}

// If another process has raised the minimum, RestoreOOM writes the old value back if the child has the right to do so.
// Otherwise the error has both values.
func TestValueThatCannotBePutBackIsNamed(t *testing.T) {
	own := ownVictim(t)
	if !hasResource(t) {
		t.Skip("NOT RUN: it needs CAP_SYS_RESOURCE")
	}
	for order, want := range map[byte]string{
		asksProblem: "true <nil>",
		dropsUser:   "false oom_score_adj stays 1000 and cannot be " + own + " again: write: permission denied",
	} {
		child := start(t, ownProgram(t), roleEnviron())
		child.report()
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", child.PID), []byte("1000"), 0); err != nil {
			t.Fatal(err)
		}
		if got := child.say(order); got != "<nil>" {
			t.Fatal(got)
		}
		if got := child.say(restores); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// After the write, every thread has the capability again that was given up for the write.
func TestCapabilitiesAreAsBefore(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, args := self, []string(nil)
	if os.Geteuid() == 0 && !hasResource(t) { // a process has every capability in a user namespace that it makes
		program, args = testutil.Program(t, "unshare", "util-linux"), []string{"--user", "--map-root-user", self}
	}
	child := start(t, preflight(t, program, args...), roleEnviron())
	child.report()
	if got := child.say(asksProblem); got != "<nil>" {
		t.Fatal(got)
	}
	before := child.say(showsCaps)
	if caps, err := strconv.ParseUint(before[:len(before)/2], 16, 64); os.Geteuid() == 0 && caps&(1<<unix.CAP_SYS_RESOURCE) == 0 || err != nil {
		t.Errorf("the capabilities are %s, %v", before, err)
	}
	if got := child.say(restores); got != "true <nil>" {
		t.Error(got)
	}
	if after := child.say(showsCaps); after != before || before[:len(before)/2] != before[len(before)/2:] {
		t.Errorf("the capabilities of the process and of a thread are %s, and were %s", after, before)
	}
}

// If the value is 1000 from the start, RestoreOOM does not change it.
func TestGreatestValueStays(t *testing.T) {
	child := start(t, preflight(t, "/bin/sh", "-c", `echo 1000 >/proc/self/oom_score_adj && exec "$0"`, ownProgramPath(t)), roleEnviron())
	child.report()
	if got := child.say(asksProblem); got != "<nil>" {
		t.Error(got)
	}
	if got := child.say(restores); got != "false <nil>" || victim(t, child.PID) != "1000" {
		t.Errorf("%s, and put back: %s", victim(t, child.PID), got)
	}
}

// If the file cannot be written, as in many containers, OOMProblem returns the reason, and RestoreOOM does nothing.
func TestReadOnlyProcIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can mount")
	}
	unshare := testutil.Program(t, "unshare", "util-linux")
	child := start(t, preflight(t, unshare, "--mount", "/bin/sh", "-c", `mount -o remount,bind,ro /proc && exec "$0"`, ownProgramPath(t)), roleEnviron())
	child.report()
	if got := child.say(asksProblem); got != "open /proc/self/oom_score_adj: read-only file system" {
		t.Error(got)
	}
	if got := child.say(restores); got != "false <nil>" || victim(t, child.PID) == "1000" {
		t.Errorf("%s, and put back: %s", victim(t, child.PID), got)
	}
}

// The processes that a candidate has started keep the value 1000 after RestoreOOM, and KilledFirst lists them. These are
// children, and orphans in the process group. A process that has set another value itself is not listed. Processes that are
// started after RestoreOOM have the old value. A later candidate has the value 1000 too, but is not listed.
func TestChildrenOfTheCandidateAreNamed(t *testing.T) {
	own := ownVictim(t)
	child := start(t, ownProgram(t), roleEnviron())
	child.report()
	helper, spared, left := startedBy(t, child, helps), startedBy(t, child, helpsLast), startedBy(t, child, leaves)
	mustBecome(t, spared, "0")
	foreign := exec.Command("sh", "-c", "echo 1000 >/proc/self/oom_score_adj; exec sleep 60")
	if err := foreign.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = foreign.Process.Kill(); _ = foreign.Wait() })
	mustBecome(t, foreign.Process.Pid, "1000")
	if got := child.say(listsFirst); got != "[]" {
		t.Errorf("before the value was put back: %s", got)
	}
	awaitNextTick(t)
	if got := child.say(restores); got != "true <nil>" {
		t.Fatal(got)
	}
	later, candidate := startedBy(t, child, helps), startedBy(t, child, helpsFirst)
	mustBecome(t, candidate, "1000")
	if victim(t, helper) != "1000" || victim(t, later) != own {
		t.Errorf("the helpers: %s before and %s after", victim(t, helper), victim(t, later))
	}
	if got := child.say(listsFirst); got != fmt.Sprint([]int{helper, left}) && got != fmt.Sprint([]int{left, helper}) {
		t.Errorf("named: %s, want %d and %d; not %d, %d, %d, and not %d, which is not its own", got, helper, left, spared, later, candidate, foreign.Process.Pid)
	}
	if err := syscall.Kill(helper, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, waitLimit, "the helper is dead", func() bool { return child.say(listsFirst) == fmt.Sprint([]int{left}) })
}

// mustBecome waits until oom_score_adj of a process is a value.
func mustBecome(t *testing.T, pid int, value string) {
	t.Helper()
	testutil.Until(t, waitLimit, "oom_score_adj is "+value, func() bool { return victim(t, pid) == value })
}

// startedBy gives a child an order to start a process, and returns the pid of the process.
func startedBy(t *testing.T, child *started, how byte) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSuffix(child.say(how), " <nil>"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// awaitNextTick waits until the time in the unit of ticks has changed: a process that is started now has a later start time
// than the processes before.
func awaitNextTick(t *testing.T) {
	t.Helper()
	tick := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			t.Fatal(err)
		}
		return ts.Nano() / 1e7
	}
	began := tick()
	testutil.Until(t, waitLimit, "the next tick", func() bool { return tick() > began })
}

// everybodysProgram returns the path of a copy of this program that every user can execute.
func everybodysProgram(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "everybody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return copyFile(t, ownProgramPath(t), filepath.Join(dir, "program"), "")
}

// ownProgramPath returns the path of this program.
func ownProgramPath(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}
