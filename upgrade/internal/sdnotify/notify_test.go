//go:build linux

package sdnotify

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

// manager returns a notify socket, which only the test reads, and sets NOTIFY_SOCKET.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "ntf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv(NotifyEnv, c.LocalAddr().String())
	return c
}

func read(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 4096)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// Without a service manager the Notifier is nil, and its methods may be called nevertheless.
func TestNobodyToTalkTo(t *testing.T) {
	t.Setenv(NotifyEnv, "")
	n := New(slog.Default())
	if n != nil {
		t.Fatal("a notifier without an address")
	}
	n.Say("READY=1")
	n.Ready(1, "", "")
	n.Reloading("")
	n.Store("x", nil)
	n.Remove("x")
	n.flush(time.Hour)
	n.Close()
	if n.Names() != nil || !slices.Equal(n.Environ([]string{"A=1"}), []string{"A=1"}) {
		t.Error("it has something")
	}
}

// Messages arrive in their order, each message once. After Close nothing is sent.
func TestMessagesKeepTheirOrder(t *testing.T) {
	c := manager(t)
	n := New(slog.Default())
	const many = 200 // more messages than fit into the queue of the socket
	for i := range many {
		n.Say("N=" + strconv.Itoa(i))
	}
	for i := range many {
		if got := read(t, c); got != "N="+strconv.Itoa(i) {
			t.Fatalf("message %d is %q", i, got)
		}
	}
	n.flush(10 * time.Second)
	n.Close()
	n.Say("late")
	n.Close()
	_ = c.SetReadDeadline(time.Now())
	if k, err := c.Read(make([]byte, 16)); err == nil {
		t.Errorf("%d bytes after close", k)
	}
}

// If the manager does not read, flush waits not much longer than its limit, and Close not much longer than notifyLast. Alive
// adds no message to a long queue.
func TestManagerThatDoesNotReadDelaysLittle(t *testing.T) {
	manager(t)
	n := New(slog.Default())
	for range 2000 {
		n.Say("X=" + strings.Repeat("x", 1000))
	}
	begun := time.Now()
	n.flush(50 * time.Millisecond)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("flush took %v", took)
	}
	for range 100 {
		n.Alive()
	}
	n.mu.Lock()
	pings := 0
	for _, m := range n.queue {
		if m.text == WordAlive {
			pings++
		}
	}
	n.mu.Unlock()
	if pings > 0 {
		t.Errorf("%d pings wait behind other messages", pings)
	}
	begun = time.Now()
	n.Close()
	if took := time.Since(begun); took > notifyLast+5*time.Second {
		t.Errorf("close took %v", took)
	}
}

// New removes the manager's variables from the environment. Only Environ passes them on, to the next generation.
func TestEnvironmentOfTheManagerIsTakenOver(t *testing.T) {
	c := manager(t)
	addr := c.LocalAddr().String()
	t.Setenv(WatchdogEnv, "3000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	n := New(slog.Default())
	defer n.Close()
	if n.watchdog != 3*time.Second {
		t.Errorf("the watchdog is %v", n.watchdog)
	}
	for _, name := range []string{NotifyEnv, WatchdogEnv, "WATCHDOG_PID"} {
		if v, ok := os.LookupEnv(name); ok {
			t.Errorf("%s=%s is left for others", name, v)
		}
	}
	if env := n.Environ([]string{"A=1"}); !slices.Equal(env, []string{NotifyEnv + "=" + addr, WatchdogEnv + "=3000000", "A=1"}) {
		t.Errorf("an upgrade gets %q", env)
	}
}

// If WATCHDOG_PID is the pid of another process, this process has no watchdog.
func TestWatchdogOfAnotherProcess(t *testing.T) {
	manager(t)
	t.Setenv(WatchdogEnv, "3000000")
	t.Setenv("WATCHDOG_PID", "1")
	n := New(slog.Default())
	defer n.Close()
	if n.watchdog != 0 {
		t.Errorf("the watchdog is %v", n.watchdog)
	}
}

// A text with line breaks, such as an error, cannot add another assignment to a message.
func TestStatusIsOneLine(t *testing.T) {
	c := manager(t)
	n := New(slog.Default())
	defer n.Close()
	n.manager = ownSupervisor
	n.Ready(2, "v1\nMAINPID=1", "it failed:\nREADY=0\r\n  MAINPID=1")
	got := strings.Split(read(t, c), "\n")
	want := []string{"READY=1", "MAINPID=" + strconv.Itoa(os.Getpid()), "STATUS=it failed: READY=0 MAINPID=1", "X_MIDAIR_GENERATION=2", "X_MIDAIR_VERSION=v1 MAINPID=1"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A message carries its descriptor to the manager. In this process the descriptor is closed after the sending.
func TestDescriptorGoesAlong(t *testing.T) {
	c := manager(t)
	n := New(slog.Default())
	defer n.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	n.Store("pipe", r)
	oob, buf := make([]byte, 64), make([]byte, 256)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	k, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil || string(buf[:k]) != "FDSTORE=1\nFDNAME=pipe\nFDPOLL=0" {
		t.Fatalf("%q, %v", buf[:k], err)
	}
	files, err := sys.ReceivedFiles(oob[:oobn])
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	defer files[0].Close()
	testutil.Until(t, 10*time.Second, "it is closed here", func() bool {
		_, err := r.Stat()
		return err != nil
	})
	if err := unix.SetNonblock(int(files[0].Fd()), true); err != nil {
		t.Error(err)
	}
	n.Remove("other")
	n.Remove("pipe")
	if got := read(t, c); got != "FDSTOREREMOVE=1\nFDNAME=pipe" {
		t.Errorf("%q", got)
	}
}
