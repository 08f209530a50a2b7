//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
	"golang.org/x/sys/unix"
)

// The descriptors, from 3 on and in order, that a process inherits if it is started before package inherited has marked the
// descriptors. docs/security.md names these exceptions.
const (
	// heldOfCandidate are the descriptors of a candidate that is no script: tableflip's two pipes and the control socket.
	heldOfCandidate = "pipe pipe socket"
	// heldOfScript are the descriptors of a candidate that is a script: it also gets the listeners.
	heldOfScript = "pipe pipe listener listener socket"
	// heldOfRestart is the descriptor of a program that the supervisor starts: the channel.
	heldOfRestart = "socket"
	// heldOfScriptRestart are the descriptors of a script that the supervisor starts: the build for Rollback and its
	// arguments, the listeners, the channel and the script.
	heldOfScriptRestart = "file file listener listener socket file"
)

// mayHold has the descriptors that a helper may have open besides 0, 1 and 2, by the place that has started the helper. The
// columns are: an upgrade, a restart by the supervisor, an upgrade to a script, a restart of a script.
var mayHold = map[plan.Helper][4]string{
	plan.HelperOfWrapper:   {"", "", heldOfScript, heldOfScriptRestart},
	plan.HelperOfEarlyInit: {heldOfCandidate, heldOfRestart, heldOfScript, heldOfScriptRestart},
	plan.HelperOfInit:      {},
	plan.HelperOfMain:      {},
	plan.HelperOfCheck:     {},
	plan.HelperOfHandler:   {},
}

// A process that the program starts has no descriptor of the upgrade, wherever in the program it is started: neither the
// pipes, nor the control socket, the channel or a listener. The exceptions are in mayHold.
func TestHelpersHoldNothingOfTheUpgrade(t *testing.T) {
	for name, c := range map[string]struct{ supervised, script bool }{
		"alone": {}, "supervised": {supervised: true}, "script": {script: true}, "supervised script": {supervised: true, script: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				s.AllowWrapper = c.script
				if c.supervised {
					always(s)
				}
			}, plan.HelpersEnv+"=yes")
			first := r.MainPID()
			column := 0
			if c.script {
				column = 2
				wrapIn(t, r, "/bin/sleep "+string(plan.HelperOfWrapper))
			}
			r.Upgrade()
			r.WaitServing(2, first)
			helpersMustHold(t, r, column)
			if !c.supervised {
				return
			}
			r.WaitKnown()
			dead := r.MainPID()
			if err := syscall.Kill(dead, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(dead) })
			helpersMustHold(t, r, column+1)
		})
	}
}

// wrapIn makes the service's executable a script that starts a command and becomes the program.
func wrapIn(t *testing.T, r *testclient.Service, command string) {
	t.Helper()
	path := filepath.Join(r.Dir, "wrapper")
	script := fmt.Sprintf("#!/bin/sh\n%s &\nexec %s \"$@\"\n", command, testclient.Binary(t))
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r.LinkTo(path)
}

// A helper of a wrapper has all descriptors of the candidate, but cannot commit: the Ready byte that it writes ends the
// attempt. The helper leaves the candidate's group and lives on with the descriptors, but the next upgrade succeeds.
func TestReadyByteOfAHelperCommitsNothing(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { long(s); s.AllowWrapper = true })
	l := r.Load(smallLoad)
	wrapIn(t, r, fmt.Sprintf(`%s sh -c 'until [ -e %s/go ]; do sleep 0.01; done; printf "*" >&3; exec /bin/sleep %s'`,
		testutil.Program(t, "setsid", "util-linux"), r.Dir, plan.HelperOfWrapper))
	_, done := r.Soaking()
	r.Touch("go")
	if a := <-done; a.Committed || a.Phase != "soak" || !strings.Contains(a.Reason, "the Ready byte out of order in phase soak") {
		t.Errorf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 2, patience) // with the helper
	for _, pid := range r.Family() {
		if pid == r.PID() {
			continue
		}
		if got := heldBy(t, pid); got != heldOfScript {
			t.Errorf("the helper holds %q, want %q", got, heldOfScript)
		}
	}
	r.LinkTo(testclient.Binary(t))
	r.UpgradeNow()
	testutil.Until(t, patience, "the next generation answers", func() bool { return l.Seen("g2") })
	r.Account(l).MustBeClean(t)
}

// helpersMustHold compares the descriptors of the helpers of the main process with a column of mayHold.
func helpersMustHold(t *testing.T, r *testclient.Service, column int) {
	t.Helper()
	r.Post("/helper")
	pid := r.MainPID()
	for by, want := range mayHold {
		if by == plan.HelperOfWrapper && column < 2 {
			continue
		}
		var helper int
		testutil.Until(t, patience, "the helper "+string(by), func() bool {
			helper = helperOf(r, pid, by)
			return helper != 0
		})
		if got := heldBy(t, helper); got != want[column] {
			t.Errorf("the helper %s of process %d holds %q, want %q", by, pid, got, want[column])
		}
	}
}

// helperOf returns the helper that a process has started; 0 if there is none yet.
func helperOf(r *testclient.Service, parent int, h plan.Helper) int {
	for _, pid := range r.Family() {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // the process may have ended
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) && strings.HasSuffix(string(args), "sleep\x00"+string(h)+"\x00") {
			return pid
		}
	}
	return 0
}

// heldBy returns the kinds of the descriptors of a process, in the order of the numbers. It leaves out the standard
// descriptors, and the files that this test passes to every process that it starts.
func heldBy(t *testing.T, pid int) string {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for _, e := range entries {
		if n, _ := strconv.Atoi(e.Name()); n > 2 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	listening, foreign := listeningInodes(t), passedOn(t)
	var held []string
	for _, n := range numbers {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, n))
		switch {
		case err != nil:
			t.Fatal(err)
		case foreign[to]:
		case strings.HasPrefix(to, "pipe:"):
			held = append(held, "pipe")
		case listening[to]:
			held = append(held, "listener")
		case strings.HasPrefix(to, "socket:"):
			held = append(held, "socket")
		default:
			held = append(held, "file")
		}
	}
	return strings.Join(held, " ")
}

// passedOn returns the files that this process has inherited, and that every process inherits from it.
func passedOn(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, line := range testutil.OpenFDs() {
		number, to, _ := strings.Cut(line, " ")
		fd, _ := strconv.Atoi(number)
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fd > 2 && err == nil && flags&unix.FD_CLOEXEC == 0 {
			all[to] = true
		}
	}
	return all
}

// listeningInodes returns the listening sockets of this machine, with the names of the links in /proc.
func listeningInodes(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for range 3 { // one look may miss sockets while other processes open and close sockets
		for _, table := range []struct {
			path         string
			field, inode int
			value        string
		}{
			{"/proc/net/tcp", 3, 9, "0A"}, {"/proc/net/tcp6", 3, 9, "0A"}, {"/proc/net/unix", 3, 6, "00010000"},
		} {
			b, err := os.ReadFile(table.path)
			if os.IsNotExist(err) {
				continue // no IPv6
			}
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) > table.inode && f[table.field] == table.value {
					all["socket:["+f[table.inode]+"]"] = true
				}
			}
		}
	}
	return all
}
