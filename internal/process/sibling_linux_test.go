package process

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

// playMiddle starts a process as a child of the test, which is the parent of this process. It says the pid of the new process,
// and the status when the process has ended.
func playMiddle(role string) int {
	exe, err := os.Executable()
	if err != nil {
		return 5
	}
	path := os.Getenv(saysEnv)
	c, err := Start(Program{path: exe, args: []string{exe}}.AsSibling(nil),
		append([]string{roleEnv + "=" + role, saysEnv + "=" + path + ".sibling"}, os.Environ()...), nil, nil)
	if err != nil || say("", strconv.Itoa(c.PID)) != nil {
		return 6
	}
	if strings.Contains(role, "killed") {
		for end := time.Now().Add(patience); err == nil && time.Now().Before(end); { // until the sibling is ready
			if _, err := os.Stat(path + ".sibling"); err == nil {
				break
			}
			<-time.After(time.Millisecond)
		}
		if c.Kill() != nil {
			return 7
		}
	}
	<-c.Exited
	if c.Kill() != nil || say(".status", c.Status) != nil { // Kill returns nil: the sibling has ended already
		return 8
	}
	return 0
}

// keepsStatus reports whether the kernel keeps the exit status of a process after another process has reaped it.
func keepsStatus(t *testing.T) bool {
	c, _ := startAs(t, "exit")
	pidfd, err := c.PIDFD()
	mustEnd(t, c)
	if err != nil { // the child was reaped before: try again
		return keepsStatus(t)
	}
	defer pidfd.Close()
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	return unix.IoctlPidfdInfo(int(sys.FD(pidfd)), &info) == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0
}

// A sibling is a child of the starter's parent from its birth, and this parent reaps it. Nevertheless the starter learns when
// and how the sibling ends. Kill kills the sibling and its group, even if the sibling has moved to another group. After the
// sibling was reaped, Kill kills no other process.
func TestSiblingIsTheParentsChild(t *testing.T) {
	known := keepsStatus(t)
	for role, c := range map[string]struct {
		reap bool
		want string
	}{
		"exit":                {true, "exit status 7"},
		"killed":              {true, "signal: killed"},
		"helper group killed": {true, "signal: killed"},
		"stay":                {true, "signal: killed"}, // the parent kills the sibling
		"exit alone":          {false, unknownStatus},   // no process reaps the sibling
	} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			m, says, path := startSaying(t, "middle "+role)
			pid, _ := strconv.Atoi(says)
			stat, err := os.ReadFile(filepath.Join("/proc", says, "stat"))
			if fields := strings.Fields(string(stat)); err != nil || fields[3] != strconv.Itoa(os.Getpid()) {
				t.Errorf("%q, %v: this process is %d", stat, err, os.Getpid())
			}
			if role == "stay" {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			var ws syscall.WaitStatus
			if c.reap {
				if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
					t.Error(err)
				}
			}
			mustEnd(t, m)
			if m.Status != "exit status 0" {
				t.Fatal(m.Status)
			}
			if !c.reap {
				_, _ = syscall.Wait4(pid, nil, 0, nil)
			}
			if b, _ := os.ReadFile(path + ".status"); string(b) != c.want && (known || string(b) != unknownStatus) {
				t.Errorf("status %q, want %q", b, c.want)
			}
			if b, _ := os.ReadFile(path + ".sibling"); len(b) > 0 {
				helper, _ := strconv.Atoi(string(b))
				until(t, "the helper has ended", func() bool { return !runs(helper) })
			}
		})
	}
}

// Close closes all descriptors that this process has of a sibling.
func TestClosedSiblingLeavesNoDescriptor(t *testing.T) {
	before := len(testutil.OpenFDs())
	var all []*Child // keeps the children reachable: otherwise the garbage collector could close the descriptors
	for range 5 {
		c, err := Start(Program{path: "/bin/true", args: []string{"true"}}.AsSibling(nil), os.Environ(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustEnd(t, c)
		c.Control.Close()
		c.Close()
		all = append(all, c)
	}
	until(t, "as many descriptors as before", func() bool { return len(testutil.OpenFDs()) <= before })
	runtime.KeepAlive(all)
}
