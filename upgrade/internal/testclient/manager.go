//go:build linux

package testclient

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
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Manager plays systemd for a service: a notify socket with a record of every message, a descriptor store, and, at the
// start, the sockets of socket units and of the store.
type Manager struct {
	Dir string // the directory with the sockets of the manager and of socket units

	t      *testing.T
	notify *net.UnixConn
	passes *net.UnixListener

	mu       sync.Mutex
	received []Datagram
	beats    []beat
	store    map[string]*os.File
	unit     *Unit          // nil: messages of all processes are accepted, and the store has no limit
	watching sync.WaitGroup // goroutines that wait for main processes of the unit
	marks    atomic.Int64   // the last mark that catchUp has sent
	mark     int64          // the last mark that was received
}

// Datagram is a message to the service manager.
type Datagram struct {
	PID  int // the sender
	Text string
}

// beat is when a message of the watchdog was received.
type beat struct {
	pid int
	at  time.Time
}

// NewManager starts a service manager, which ends with the test.
func NewManager(t *testing.T) *Manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "sys")
	if err != nil {
		t.Fatal(err)
	}
	m := &Manager{t: t, Dir: dir, store: map[string]*os.File{}}
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
	go m.listen(done) // ends with the socket
	t.Cleanup(func() {
		m.notify.Close()
		m.passes.Close()
		<-done
		m.watching.Wait()
		for _, f := range m.store {
			f.Close()
		}
		os.RemoveAll(dir)
	})
	return m
}

// Pause suspends the manager until the function goOn is called: the manager handles no messages, and calls of its methods wait.
func (m *Manager) Pause() (goOn func()) {
	m.mu.Lock()
	return m.mu.Unlock
}

// catchUp returns when the manager has received all messages that were sent before the call. It gives up after Patience, and
// if the manager has ended.
func (m *Manager) catchUp() {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.Dir + "/notify", Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	mark := m.marks.Add(1)
	if _, err := c.Write([]byte(markWord + strconv.FormatInt(mark, 10))); err != nil {
		return
	}
	testutil.Within(Patience, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.mark >= mark
	})
}

// markWord is the beginning of a message that catchUp sends to the manager.
const markWord = "X_MARK="

func (m *Manager) listen(done chan struct{}) {
	defer close(done)
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := m.notify.ReadMsgUnix(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			m.receive(string(buf[:n]), oob[:oobn])
		}
	}
}

func (m *Manager) receive(text string, oob []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := Datagram{Text: text}
	msgs, _ := unix.ParseSocketControlMessage(oob)
	var files []*os.File
	for _, msg := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msg); err == nil {
			d.PID = int(cred.Pid)
		}
		fds, _ := unix.ParseUnixRights(&msg)
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "stored"))
		}
	}
	if mark, ok := strings.CutPrefix(text, markWord); ok && d.PID == os.Getpid() {
		m.mark, _ = strconv.ParseInt(mark, 10, 64)
		return
	}
	if m.unit == nil || m.unit.accept(d) {
		files = m.note(d, files)
	}
	for _, f := range files {
		f.Close()
	}
}

// note records a message, changes the store as the message asks, and returns the files that are not stored.
func (m *Manager) note(d Datagram, files []*os.File) []*os.File {
	if d.Text == "WATCHDOG=1" {
		m.beats = append(m.beats, beat{d.PID, time.Now()})
		return files
	}
	m.received = append(m.received, d)
	name := field(d.Text, "FDNAME=")
	switch room := m.unit == nil || len(m.store) < m.unit.file.Stores; {
	case strings.Contains(d.Text, "FDSTORE=1") && len(files) == 1 && m.store[name] == nil && room:
		m.store[name] = files[0]
		return nil
	case strings.Contains(d.Text, "FDSTOREREMOVE=1") && m.store[name] != nil:
		m.store[name].Close()
		delete(m.store, name)
	}
	return files
}

func field(text, name string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(line, name); ok {
			return v
		}
	}
	return ""
}

// Since returns the messages without the first n, and without the messages of the watchdog.
func (m *Manager) Since(n int) []Datagram {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.received[min(n, len(m.received)):])
}

// Count returns how many messages were received, without the messages of the watchdog.
func (m *Manager) Count() int { return len(m.Since(0)) }

// Pings returns how many messages of the watchdog a process has sent.
func (m *Manager) Pings(pid int) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.beats {
		if b.pid == pid {
			n++
		}
	}
	return n
}

// Silence returns the longest time between two successive messages of the watchdog. Only pairs whose second message came
// after the given time count.
func (m *Manager) Silence(after time.Time) (longest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 1; i < len(m.beats); i++ {
		if m.beats[i].at.After(after) {
			longest = max(longest, m.beats[i].at.Sub(m.beats[i-1].at))
		}
	}
	return longest
}

// Store adds a descriptor to the store.
func (m *Manager) Store(name string, file *os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.store[name] = file
}

// Stored lists the names in the store.
func (m *Manager) Stored() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.store {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var volatile = regexp.MustCompile(`(MONOTONIC_USEC=|/tmp/svc)\d+`)

// MustReceive waits for the messages after the first n, ends the test if they are others than want, and returns the number of
// messages so far. Numbers that differ from run to run are 0 in the texts of want.
func (m *Manager) MustReceive(n int, want ...Datagram) int {
	m.t.Helper()
	testutil.Until(m.t, Patience, fmt.Sprintf("%d messages", len(want)), func() bool { return m.Count() >= n+len(want) })
	got := m.Since(n)
	for i := range got {
		got[i].Text = volatile.ReplaceAllString(got[i].Text, "${1}0")
	}
	if !slices.Equal(got, want) {
		m.t.Fatalf("the service manager received\n%v\nwant\n%v", got, want)
	}
	return n + len(want)
}

// Start starts a service, as systemd does, with the given sockets, by name, and with the sockets in the store.
func (m *Manager) Start(change func(*plan.Settings), sockets map[string]*os.File, env ...string) *Service {
	m.t.Helper()
	return StartBy(m.t, change, func(r *Service) *testutil.Proc { return m.Launch(r, sockets, env...) })
}

// Launch starts a process of a service that exists already, with the same sockets as Start.
func (m *Manager) Launch(r *Service, sockets map[string]*os.File, env ...string) *testutil.Proc {
	m.t.Helper()
	env = append(env, r.Env(), plan.ManagerEnv+"="+m.Dir)
	if m.unit == nil || m.unit.file.Access != "" {
		env = append(env, "NOTIFY_SOCKET="+m.Dir+"/notify")
	}
	p := testutil.Start(m.t, "launcher", testutil.Cfg{Env: env})
	var names []string
	var fds []int
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unit != nil {
		m.unit.begin(p) // before the process can send a message
	}
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

// Sockets opens the sockets of two socket units with the names "web" and "admin".
func (m *Manager) Sockets() map[string]*os.File {
	m.t.Helper()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	defer web.Close()
	admin, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(m.Dir, "admin.sock"), Net: "unix"})
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

// String returns the sender and the text.
func (d Datagram) String() string { return fmt.Sprintf("%d: %q", d.PID, d.Text) }
