//go:build unix

package inherited_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/inherited"
	"golang.org/x/sys/unix"
)

// reportEnv makes this program print which of its descriptors are close-on-exec.
const reportEnv = "MIDAIR_INHERITED_REPORT"

func TestMain(m *testing.M) {
	if os.Getenv(reportEnv) != "" {
		report()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// report prints a letter for each number from 3 on: o if a child would inherit this descriptor, otherwise x.
func report() {
	var out strings.Builder
	for fd := uintptr(3); fd < 10; fd++ {
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			out.WriteByte('o')
		} else {
			out.WriteByte('x')
		}
	}
	fmt.Println(out.String())
}

func environ() []string { return append(os.Environ(), reportEnv+"=1", "GORACE=atexit_sleep_ms=0") }

// started starts a process and returns its report. The process inherits the descriptors 3 to 6, and 8 and 9. It is started by a
// shell with exec, so it has the process id of the shell.
func started(t *testing.T, script string, env ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command("/bin/sh", "-c", script+` exec "$0"`, self)
	cmd.ExtraFiles = []*os.File{null, null, null, null, nil, null, null}
	cmd.Env = append(environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// The inherited files that belong to an upgrade are close-on-exec before main. In a process that was started as a child, these
// are all files up to the first gap. In a process that systemd has started, these are the files that LISTEN_FDS counts. In any
// other process there are none.
func TestInheritedFilesAreClosedOnExec(t *testing.T) {
	const none, child = "ooooxoo", "xxxxxoo"
	for _, c := range []struct {
		name, script string
		env          []string
		want         string
	}{
		{"nobody's child", "", nil, none},
		{"a child", "", []string{inherited.Sentinel + "=yes"}, child},
		{"sockets of systemd", "LISTEN_PID=$$", []string{"LISTEN_PID=", "LISTEN_FDS=2"}, "xxooxoo"},
		{"more than are there", "LISTEN_PID=$$", []string{"LISTEN_PID=", "LISTEN_FDS=999999999"}, child},
		{"no number", "LISTEN_PID=$$", []string{"LISTEN_PID=", "LISTEN_FDS=-1"}, none},
		{"too great a number", "LISTEN_PID=$$", []string{"LISTEN_PID=", "LISTEN_FDS=18446744073709551618"}, none},
		{"sockets of another process", "", []string{"LISTEN_PID=1", "LISTEN_FDS=2"}, none},
		{"sockets of nobody", "", []string{"LISTEN_FDS=2"}, none},
		{"a number that is no channel", "", []string{inherited.ChannelEnv + "=3", "LISTEN_FDS=2"}, none},
		{"a number that is not open", "", []string{inherited.ChannelEnv + "=7"}, none},
		{"a standard descriptor", "", []string{inherited.ChannelEnv + "=1"}, none},
	} {
		if got := started(t, c.script, c.env...); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// In a process with a channel to the supervisor, all inherited files up to the first gap are close-on-exec: there is no
// LISTEN_PID, and the file of a script may follow the channel. A socket that the parent of this process has not made is no
// channel.
func TestFilesOfTheSupervisorAreClosedOnExec(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no supervisor")
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range pair {
		syscall.CloseOnExec(fd)
	}
	defer syscall.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "channel")
	defer theirs.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, script, want string
	}{
		{"a child", `exec "$0"`, "xxxxoo"},
		{"the child of a wrapper", `"$0"; exit $?`, "oooxoo"}, // its parent is the shell, which has not made the channel
	} {
		cmd := exec.Command("/bin/sh", "-c", c.script, self)
		cmd.ExtraFiles = []*os.File{null, theirs, null, nil, null, null}
		cmd.Env = append(environ(), inherited.ChannelEnv+"=4", "LISTEN_FDS=1")
		out, err := cmd.Output()
		if err != nil || !strings.HasPrefix(string(out), c.want) {
			t.Errorf("%s: %q, %v, want %s", c.name, out, err, c.want)
		}
	}
}
