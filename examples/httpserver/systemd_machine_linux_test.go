package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/testutil"
)

var systemdRoot = flag.String("midair.systemd-root", "", "`directory` of the Debian with systemd that TestRealSystemd boots; made if it is missing; "+
	"default: midair/RELEASE below the user's cache")

// bootTime is how long systemd may take to be up, and a command in the machine to end.
const bootTime = 2 * time.Minute

// machine is a Debian whose process 1 is systemd, in namespaces of its own. What it writes is gone with it.
type machine struct {
	enter    []string // a command that enters it, before the one that is to be run there
	root     string   // its file system, from outside
	own, net *os.File // the network namespaces of this process, and of the machine
}

// bootMachine boots one, which ends with the test.
func bootMachine(t *testing.T) *machine {
	t.Helper()
	tree, nsenter := debian(t), testutil.Program(t, "nsenter", "util-linux")
	testutil.Program(t, "unshare", "util-linux")
	testutil.Program(t, "ip", "iproute2")
	p := testutil.StartCommand(t, testutil.Cfg{}, "/bin/sh", "testdata/boot.sh", tree, ownCgroup(t))
	var pid string
	testutil.Until(t, bootTime, "there is a process 1", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.PID()))
		pid = strings.TrimSpace(string(b))
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		return err == nil && string(name) == "systemd\n" || ended(p)
	})
	first, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatalf("systemd has not begun: %v", err)
	}
	t.Cleanup(func() {
		killMachine(first)
		<-p.Exited() // it has waited for process 1
	})
	m := &machine{
		enter: []string{nsenter, "-t", pid, "-m", "-u", "-i", "-p", "-n", "-C", "-r", "-w"}, root: "/proc/" + pid + "/root",
		own: openFile(t, "/proc/self/ns/net"), net: openFile(t, "/proc/"+pid+"/ns/net"),
	}
	var state string
	testutil.Until(t, bootTime, "systemd is up", func() bool {
		_, state = m.run(t, "systemctl", "is-system-running")
		return state == "running" || state == "degraded" || ended(p)
	})
	_, version := m.run(t, "systemctl", "--version")
	version, _, _ = strings.Cut(version, "\n")
	t.Logf("%s, %s", version, state)
	return m
}

// killMachine ends a machine: the end of its process 1 is that of all others.
func killMachine(first int) { _ = syscall.Kill(first, syscall.SIGKILL) } // it may have ended by itself

func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// ownCgroup makes a cgroup for a machine, below that of version 2, wherever it is mounted.
func ownCgroup(t *testing.T) string {
	t.Helper()
	f := openFile(t, "/proc/self/mounts")
	at := ""
	for lines := bufio.NewScanner(f); at == "" && lines.Scan(); {
		if fields := strings.Fields(lines.Text()); fields[2] == "cgroup2" {
			at = fields[1]
		}
	}
	dir, err := os.MkdirTemp(at, "midair-test-")
	if at == "" || err != nil {
		t.Fatalf("NOT RUN: no cgroup of version 2 can be made below %q: %v", at, err)
	}
	t.Cleanup(func() {
		testutil.Until(t, patience, "the machine's cgroups are empty", func() bool { return removeCgroups(dir) == nil })
	})
	return dir
}

// removeCgroups removes a cgroup and those below it, which have no other directories.
func removeCgroups(dir string) error {
	below, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range below {
		if e.IsDir() {
			err = errors.Join(err, removeCgroups(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(err, os.Remove(dir))
}

// debian returns the directory of a Debian with systemd, and makes it if there is none.
func debian(t *testing.T) string {
	t.Helper()
	release, mirror := debianRelease(t)
	dir := *systemdRoot
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "midair", release)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if mirror == "" {
		testutil.Missing(t, "a mirror of Debian "+release, "debootstrap", errors.New("apt has none in its sources"))
	}
	part := dir + ".part" // a tree is whole, or is not there
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Logf("making %s from %s", dir, mirror)
	out, err := exec.Command(testutil.Program(t, "debootstrap", "debootstrap"), "--variant=minbase",
		"--include=systemd,systemd-sysv,dbus,libpam-systemd,procps", release, part, mirror).CombinedOutput()
	if err == nil {
		err = os.Rename(part, dir)
	}
	if err != nil {
		t.Fatalf("NOT RUN: debootstrap: %v\n%s", err, out)
	}
	return dir
}

// debianRelease returns the release of this Debian, and the mirror that its apt uses for it. Elsewhere it is trixie, from a mirror that
// apt uses for that, if it does.
func debianRelease(t *testing.T) (release, mirror string) {
	t.Helper()
	release = "trixie"
	about, err := os.ReadFile("/etc/os-release")
	if _, name, found := strings.Cut(string(about), "\nVERSION_CODENAME="); err == nil && found && strings.Contains(string(about), "\nID=debian\n") {
		release, _, _ = strings.Cut(name, "\n")
	}
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		t.Logf("apt-get: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if of, uri, _ := strings.Cut(strings.TrimSpace(line), " "); of == release {
			return release, uri
		}
	}
	return release, ""
}

// run runs a command in the machine, and returns its exit status and what it has printed.
func (m *machine) run(t *testing.T, command ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.enter[0], append(m.enter[1:], command...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	b, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", command, err)
	}
	return cmd.ProcessState.ExitCode(), strings.TrimSpace(string(b))
}

// must is run for a command that succeeds.
func (m *machine) must(t *testing.T, command ...string) string {
	t.Helper()
	code, out := m.run(t, command...)
	if code != 0 {
		t.Fatalf("%q: exit status %d: %s", command, code, out)
	}
	return out
}

// put puts a file into the machine as a deploy does: whole, under its name.
func (m *machine) put(t *testing.T, path string, content []byte) {
	t.Helper()
	path = m.root + path
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path+".new", content, 0o755)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects to a listener of the machine: a socket belongs to the network that the thread is in that makes it.
func (m *machine) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	runtime.LockOSThread()
	if err := unix.Setns(int(m.net.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, os.NewSyscallError("setns", err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err := unix.Setns(int(m.own.Fd()), unix.CLONE_NEWNET); err != nil {
		panic(err) // no goroutine may get this thread
	}
	runtime.UnlockOSThread()
	return conn, err
}

// kill sends SIGKILL to a process that has this pid in the machine.
func (m *machine) kill(t *testing.T, pid string) time.Time {
	t.Helper()
	at := time.Now()
	m.must(t, "kill", fmt.Sprintf("-%d", syscall.SIGKILL), pid)
	return at
}
