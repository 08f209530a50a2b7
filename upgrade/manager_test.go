//go:build linux

package upgrade_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/testutil"
)

// fakeSystemd is what a service sees of systemd: a notify socket that notes every message, a descriptor store, and, at
// the start, the sockets of socket units and of the store.
type fakeSystemd struct {
	t      *testing.T
	dir    string
	notify *net.UnixConn
	passes *net.UnixListener

	mu    sync.Mutex
	heard []datagram
	store map[string]*os.File
}

// datagram is one message.
type datagram struct {
	pid  int
	text string
}

const managerEnv = "MIDAIR_TEST_MANAGER" // the directory of the fake systemd, for its launcher

func newFakeSystemd(t *testing.T) *fakeSystemd {
	t.Helper()
	dir, err := os.MkdirTemp("", "sys")
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeSystemd{t: t, dir: dir, store: map[string]*os.File{}}
	m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if m.passes, err = net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/pass", Net: "unix"}); err != nil {
		t.Fatal(err)
	}
	raw, err := m.notify.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go m.listen(done)
	t.Cleanup(func() {
		m.notify.Close()
		m.passes.Close()
		<-done
		for _, f := range m.store {
			f.Close()
		}
		os.RemoveAll(dir)
	})
	return m
}

func (m *fakeSystemd) listen(done chan struct{}) {
	defer close(done)
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := m.notify.ReadMsgUnix(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			m.hear(string(buf[:n]), oob[:oobn])
		}
	}
}

func (m *fakeSystemd) hear(text string, oob []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := datagram{text: text}
	msgs, _ := unix.ParseSocketControlMessage(oob)
	var files []*os.File
	for _, msg := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msg); err == nil {
			d.pid = int(cred.Pid)
		}
		fds, _ := unix.ParseUnixRights(&msg)
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "stored"))
		}
	}
	m.heard = append(m.heard, d)
	name := field(text, "FDNAME=")
	switch {
	case strings.Contains(text, "FDSTORE=1") && len(files) == 1 && m.store[name] == nil:
		m.store[name] = files[0]
		return
	case strings.Contains(text, "FDSTOREREMOVE=1") && m.store[name] != nil:
		m.store[name].Close()
		delete(m.store, name)
	}
	for _, f := range files {
		f.Close()
	}
}

func field(text, name string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(line, name); ok {
			return v
		}
	}
	return ""
}

// since returns what was heard from the n-th message on, without the watchdog's.
func (m *fakeSystemd) since(n int) (all []datagram) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.heard {
		if d.text != "WATCHDOG=1" {
			all = append(all, d)
		}
	}
	return all[min(n, len(all)):]
}

func (m *fakeSystemd) count() int { return len(m.since(0)) }

// stored lists the names in the store.
func (m *fakeSystemd) stored() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.store {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var volatile = regexp.MustCompile(`(MONOTONIC_USEC=|/tmp/svc)\d+`)

// mustHear waits for the next messages, each by this process, and returns how many there are now.
func (m *fakeSystemd) mustHear(n int, want ...datagram) int {
	m.t.Helper()
	testutil.Until(m.t, patience, fmt.Sprintf("%d messages", len(want)), func() bool { return m.count() >= n+len(want) })
	got := m.since(n)
	for i := range got {
		got[i].text = volatile.ReplaceAllString(got[i].text, "${1}0")
	}
	if !slices.Equal(got, want) {
		m.t.Fatalf("the service manager heard\n%v\nwant\n%v", got, want)
	}
	return n + len(want)
}

// start starts the service with the given sockets, by name, and what the store has.
func (m *fakeSystemd) start(change func(*settings), sockets map[string]*os.File, env ...string) *running {
	m.t.Helper()
	return startServiceBy(m.t, change, func(r *running) *testutil.Proc { return m.launch(r, sockets, env...) })
}

func (m *fakeSystemd) launch(r *running, sockets map[string]*os.File, env ...string) *testutil.Proc {
	m.t.Helper()
	p := testutil.Start(m.t, "launcher", testutil.Cfg{Env: append(env, dirEnv+"="+r.dir, managerEnv+"="+m.dir, "NOTIFY_SOCKET="+m.dir+"/notify")})
	var names []string
	var fds []int
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, all := range []map[string]*os.File{sockets, m.store} {
		for name, f := range all {
			names, fds = append(names, name), append(fds, int(f.Fd()))
		}
	}
	c, err := m.passes.AcceptUnix()
	if err == nil {
		defer c.Close()
		_, _, err = c.WriteMsgUnix([]byte(strings.Join(names, ":")+"\n"), unix.UnixRights(fds...), nil)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return p
}

// launch is the launcher: the part of systemd between fork and exec.
func launch() error {
	c, err := net.Dial("unix", os.Getenv(managerEnv)+"/pass")
	if err != nil {
		return err
	}
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	n, oobn, _, _, err := c.(*net.UnixConn).ReadMsgUnix(buf, oob)
	if err != nil {
		return err
	}
	names := strings.TrimSpace(string(buf[:n]))
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return err
	}
	pid := strconv.Itoa(os.Getpid())
	env := append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MIDAIR_TEST_ROLE=") }),
		"MIDAIR_TEST_ROLE=service", "WATCHDOG_PID="+pid)
	for _, msg := range msgs {
		fds, _ := unix.ParseUnixRights(&msg)
		for i, fd := range fds { // out of the way first
			if fds[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100); err != nil {
				return err
			}
		}
		for i, fd := range fds {
			if err := unix.Dup3(fd, 3+i, 0); err != nil {
				return err
			}
		}
		env = append(env, fmt.Sprint("LISTEN_FDS=", len(fds)), "LISTEN_FDNAMES="+names, "LISTEN_PID="+pid)
	}
	return syscall.Exec("/proc/self/exe", os.Args, env)
}

// sockets opens what the socket units "web" and "admin" of a service in dir would be.
func (m *fakeSystemd) sockets() map[string]*os.File {
	m.t.Helper()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	defer web.Close()
	admin, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(m.dir, "admin.sock"), Net: "unix"})
	if err != nil {
		m.t.Fatal(err)
	}
	admin.SetUnlinkOnClose(false)
	defer admin.Close()
	all := map[string]*os.File{}
	if all["web"], err = web.(*net.TCPListener).File(); err == nil {
		all["admin"], err = admin.File()
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { all["web"].Close(); all["admin"].Close() })
	return all
}

// String shows who said it.
func (d datagram) String() string { return fmt.Sprintf("%d: %q", d.pid, d.text) }
