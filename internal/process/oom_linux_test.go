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

// What a child is told about its oom_score_adj, beside what every child obeys.
const (
	asksProblem = 'p'
	restores    = 'o'
	undumpable  = 'd'
	dropsUser   = 'u'
	helps       = 'h' // starts a process that sleeps
	helpsFirst  = 'f' // one that asks to be killed first
	helpsLast   = 'l' // one that does not want to be
	leaves      = 'g' // one whose parent has ended
	listsFirst  = 'k'
	showsCaps   = 'c'
)

// stranger is a user that owns nothing.
const stranger = 65534

// obeyOOM does what a child is told, and returns the answer.
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

// sleeps starts a process that sleeps, and returns its pid.
func sleeps(before string) string {
	cmd := exec.Command("sh", "-c", before+"exec sleep 60")
	err := cmd.Start()
	return fmt.Sprint(cmd.Process.Pid, err)
}

// effective is the line of a status file with the effective capabilities.
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

// victim is oom_score_adj of a process.
func victim(t testing.TB, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// ownVictim is oom_score_adj of this process, which must not be that of a candidate.
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

// A child is the first to be killed from its start on, whatever it does with itself meanwhile, until the old value is put back,
// which is done once. If this process has CAP_SYS_RESOURCE, the child has had it too when it raised the value: the child that
// gives up its user without it could not put the value back if the kernel had raised the least value as well.
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

// If somebody has raised the least value, the old one is put back where this process may do that, and otherwise the error names
// both.
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

// The capability that was given up for the write is there again, in every thread.
func TestCapabilitiesAreAsBefore(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, args := self, []string(nil)
	if os.Geteuid() == 0 && !hasResource(t) { // who makes a user namespace has every capability in it
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

// A value that is the greatest from the start is nobody's to put back.
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

// Where the file cannot be written, as in many containers, the reason is kept for the log, and nothing is put back.
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

// What a candidate has started is still to be killed first after the value was put back, and is named, unless it has changed
// that itself: children, and what is left of them in the process group. What is started from then on has the old value; a
// candidate is not named.
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

// startedBy is a process that a child has started.
func startedBy(t *testing.T, child *started, how byte) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSuffix(child.say(how), " <nil>"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// awaitNextTick waits until a process that is started now has another start time than those before.
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

// everybodysProgram is a copy of this program that every user can execute.
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

// ownProgramPath is the path of this program.
func ownProgramPath(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}
