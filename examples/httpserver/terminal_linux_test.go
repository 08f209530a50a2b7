package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

func init() { roles["terminal"] = onTerminal }

const terminalEnv = "SITE_TEST_TERMINAL" // the path of a terminal

// onTerminal is what a login does: it makes the terminal the one of its session, and then is a command.
func onTerminal() int {
	if os.Getenv(asksEnv) != "" {
		return asks()
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // what is caught is not ignored after exec, whoever runs the tests
	tty, err := os.OpenFile(os.Getenv(terminalEnv), os.O_RDWR, 0)
	if err == nil {
		for fd := range 3 {
			err = unix.Dup3(int(tty.Fd()), fd, 0)
		}
	}
	path, err2 := exec.LookPath(os.Args[1])
	if err == nil && err2 == nil {
		env := os.Environ()
		for i, v := range env {
			if strings.HasPrefix(v, "MIDAIR_TEST_ROLE=") {
				env[i] = "MIDAIR_TEST_ROLE="
			}
		}
		err = syscall.Exec(path, os.Args[1:], env)
	}
	fmt.Fprintln(os.Stderr, err, err2)
	return 1
}

// terminal is a pseudo-terminal with a command on it.
type terminal struct {
	*testutil.Proc
	t      *testing.T
	master *os.File
	done   chan struct{} // closed when nothing is read any more

	mu     sync.Mutex
	screen bytes.Buffer
	shut   atomic.Bool
}

func startOnTerminal(t *testing.T, command ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	_ = raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, done: make(chan struct{})}
	t.Cleanup(func() {
		term.close()
		if t.Failed() {
			t.Log(term.text())
		}
	})
	go term.read() // ends with the terminal
	term.Proc = testutil.Start(t, "terminal", testutil.Cfg{Args: command, Env: []string{terminalEnv + "=/dev/pts/" + strconv.Itoa(n)}})
	return term
}

func (t *terminal) read() {
	defer close(t.done)
	buf := make([]byte, 4096)
	for {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		t.screen.Write(buf[:n])
		t.mu.Unlock()
		if err != nil && t.shut.Load() {
			return
		}
		if err != nil { // nobody has opened the other side yet, or nobody has it any more
			<-time.After(time.Millisecond)
		}
	}
}

// close is what a terminal emulator does when its window is closed.
func (t *terminal) close() {
	t.shut.Store(true)
	t.master.Close()
	<-t.done
}

func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.String()
}

// until waits for a text on the screen and returns what the expression has found first, in lines that are complete: a
// terminal shows half an address and half a pid as well.
func (t *terminal) until(expr string) string {
	t.t.Helper()
	re := regexp.MustCompile(expr)
	var found []string
	testutil.Until(t.t, 2*patience, expr+" on the screen", func() bool {
		text := t.text()
		found = re.FindStringSubmatch(text[:strings.LastIndexByte(text, '\n')+1])
		return found != nil
	})
	return found[len(found)-1]
}

// withFiles adds what the service needs to run below dir.
func withFiles(dir string, command ...string) []string {
	return append(command, "-addr=127.0.0.1:0", "-admin=", "-soak=50ms",
		"-pid-file="+filepath.Join(dir, "pid"), "-flags="+filepath.Join(dir, "flags.json"), "-sessions="+filepath.Join(dir, "sessions"))
}

// In a terminal, by go run and by itself: a SIGHUP to the pid that is printed upgrades, Ctrl-C stops everything, once, and
// what was begun is answered. Nothing is left.
func TestTerminalUpgradeAndInterrupt(t *testing.T) {
	t.Run("go run", func(t *testing.T) { upgradeAndInterrupt(t, 1, "go", "run", ".") }) // go itself says 1 after Ctrl-C
	t.Run("built", func(t *testing.T) { upgradeAndInterrupt(t, 0, build(t, "v1")) })
}

func upgradeAndInterrupt(t *testing.T, status int, command ...string) {
	t.Helper()
	dir := t.TempDir()
	term := startOnTerminal(t, withFiles(dir, command...)...)
	addr := term.until(`msg=serving addr=(\S+)`)
	for generation := 1; generation <= 2; generation++ {
		pid, _ := strconv.Atoi(term.until(fmt.Sprintf(`msg="upgrade: serving" generation=%d \S+ pid=(\d+)`, generation)))
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	term.until(`msg="upgrade: serving" generation=3`)
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + addr + "/slow?d=1s")
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	testutil.Until(t, patience, "the request has arrived", func() bool { return connected(addr) || len(answered) > 0 })
	if _, err := term.master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("a request that was begun: %v", err)
	}
	if code, err := term.Wait(patience); err != nil || code != status || strings.Contains(term.text(), "exit status") {
		t.Errorf("exit status %d, %v\n%s", code, err, term.text())
	}
	term.WaitFamily(t, 0, patience)
	if n := strings.Count(term.text(), "upgrade: stopping"); n != 1 {
		t.Errorf("stopped %d times\n%s", n, term.text())
	}
	left(t, dir)
}

// Closing the terminal stops the service as SIGTERM does, and nothing is left.
func TestTerminalClosed(t *testing.T) {
	dir := t.TempDir()
	term := startOnTerminal(t, withFiles(dir, "go", "run", ".")...)
	pid, _ := strconv.Atoi(term.until(`msg="upgrade: serving" generation=1 \S+ pid=(\d+)`))
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil { // an older generation is no hindrance
		t.Fatal(err)
	}
	term.until(`msg="upgrade: serving" generation=2`)
	term.close()
	term.WaitFamily(t, 0, patience)
	left(t, dir)
}

// A service that was started by nohup outlives the terminal's window, in each generation, and is upgraded by a SIGHUP afterwards.
func TestNohupOutlivesTheTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	pid := func() int {
		b, _ := os.ReadFile(pidFile)
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	term := startOnTerminal(t, "bash", "--norc", "-i")
	command := strings.Join(withFiles(dir, build(t, "v1")), " ")
	if _, err := fmt.Fprintf(term.master, "nohup %s >%s/log 2>&1 </dev/null &\n", command, dir); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, 2*patience, "the service serves", func() bool { return pid() != 0 })
	upgraded := func() {
		t.Helper()
		before := pid()
		if err := syscall.Kill(before, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testutil.Until(t, patience, "another process serves", func() bool { return pid() != before && pid() != 0 })
	}
	upgraded()
	before := pid()
	term.close() // the shell passes the end on to its jobs, and ends
	if _, err := term.Wait(patience); err != nil {
		t.Fatal(err)
	}
	if now := pid(); now != before {
		t.Errorf("the end of the terminal has made pid %d of %d", now, before)
	}
	waitOver(t) // a signal of the next second could come from the terminal
	upgraded()
	if err := syscall.Kill(pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	term.WaitFamily(t, 0, patience)
	left(t, dir)
}

// waitOver waits until a SIGHUP is no more taken for the end of a terminal.
func waitOver(t *testing.T) {
	t.Helper()
	begun := time.Now()
	testutil.Until(t, patience, "a second is over", func() bool { return time.Since(begun) > 1100*time.Millisecond })
}

// A service in the background goes on after the logout. A SIGHUP that comes later is a request to upgrade, in each generation.
func TestHangupAfterLogoutUpgrades(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	pid := func() int {
		b, _ := os.ReadFile(pidFile)
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	term := startOnTerminal(t, "bash", "--norc", "-i")
	command := strings.Join(withFiles(dir, build(t, "v1")), " ")
	if _, err := fmt.Fprintf(term.master, "%s >%s/log 2>&1 &\n", command, dir); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, 2*patience, "the service serves", func() bool { return pid() != 0 })
	if _, err := term.master.WriteString("exit\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := term.Wait(patience); err != nil {
		t.Fatal(err)
	}
	term.close()
	// In the moment of the logout a signal stops the service, and a request of the library waits.
	out, err := upgrade.Request(t.Context(), pidFile)
	if err != nil || out.Generation != 2 {
		t.Fatal(out, err)
	}
	for range 2 {
		before := pid()
		if err := syscall.Kill(before, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testutil.Until(t, patience, "another process serves", func() bool { return pid() != before && pid() != 0 })
	}
	if err := syscall.Kill(pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	term.WaitFamily(t, 0, patience)
	left(t, dir)
}

func left(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "pid")); !os.IsNotExist(err) {
		t.Errorf("the pid file is left: the service was not stopped in order: %v", err)
	}
}

// connected tells whether somebody has a connection to the address.
func connected(addr string) bool {
	b, _ := os.ReadFile("/proc/net/tcp")
	_, port, _ := strings.Cut(addr, ":")
	n, _ := strconv.Atoi(port)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) && f[3] == "01" {
			return true
		}
	}
	return false
}
