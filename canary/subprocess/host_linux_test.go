package subprocess_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

func init() {
	programs["host"] = runHost
	programs["late"] = func() {
		time.Sleep(200 * time.Millisecond)
		serve(http.HandlerFunc(handle))
	}
}

// runHost is a host: its arguments are Dir, Name, a file for the address, and the program of the canary. SIGTERM ends it.
func runHost() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP)
	h, err := subprocess.Start(background, subprocess.Options{
		Dir: os.Args[2], Name: os.Args[3], Cmd: program(os.Args[5], os.Args[6:]...), Silence: time.Hour, Drain: patience,
		Logger: new(logbook).logger(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(4)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(5)
	}
	go http.Serve(ln, h) // ends with the process
	_ = os.WriteFile(os.Args[4]+".new", []byte("http://"+ln.Addr().String()), 0o600)
	_ = os.Rename(os.Args[4]+".new", os.Args[4])
	<-stop
	writeMark(os.Args[4] + ".stops")
	h.Close()
}

// A host is a process with runHost, in a process group of its own.
type host struct {
	*exec.Cmd
	stderr *os.File
	file   string // see runHost
}

func startHost(t testing.TB, dir, name string, args ...string) *host {
	t.Helper()
	h := &host{file: filepath.Join(t.TempDir(), "address"), stderr: silent(t)}
	h.Cmd = exec.Command(os.Args[0], append([]string{"host", dir, name, h.file}, args...)...)
	h.Stderr, h.SysProcAttr = h.stderr, &syscall.SysProcAttr{Setpgid: true}
	if err := h.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Process.Kill(); _ = h.Wait() })
	return h
}

// url waits until the host serves.
func (h *host) url(t testing.TB) string {
	t.Helper()
	testutil.Until(t, patience, "a host", func() bool { return exists(h.file) })
	b, _ := os.ReadFile(h.file)
	return string(b)
}

func (h *host) kill() {
	_ = h.Process.Kill()
	_ = h.Wait()
}

// runs reports whether a process of a directory runs a program of the tests.
func runs(dir, program string) bool {
	for _, pid := range processesOf(dir) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasSuffix(string(b), "\x00"+program+"\x00") {
			return true
		}
	}
	return false
}

// Whenever a host is killed, its process ends by itself. A host with the same Dir and Name that lives keeps its process.
func TestKilledHostLeavesNoProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortDir(t), "s")
	living := started(t, subprocess.Options{Dir: dir, Cmd: program("serve")})
	pid := living.Status().PID
	for i := range times(30) {
		name := []string{"serve", "late", "sleeps"}[i%3]
		h := startHost(t, dir, "canary", name)
		other := startHost(t, dir, "canary", "serve")
		if name == "sleeps" {
			testutil.Until(t, patience, "a program that does not serve", func() bool { return runs(dir, name) })
		} else {
			time.Sleep(rand.N(400 * time.Millisecond)) // any moment will do
		}
		h.kill()
		other.kill()
		testutil.Until(t, patience, "the end of the processes", func() bool { return len(processesOf(dir)) == 1 })
	}
	// The next start removes what the hosts have left. A fork of a host that was killed before the fork has executed its program may
	// have kept a directory locked for a moment more, and then the start after that removes the directory.
	testutil.Until(t, patience, "one directory", func() bool {
		if err := living.Replace(t.Context()); err != nil {
			t.Fatal(err)
		}
		return testutil.Within(time.Second, func() bool {
			places, _ := filepath.Glob(dir + "/canary~*")
			return len(places) == 1
		})
	})
	if st := living.Status(); st.Failures != 0 {
		t.Errorf("the process %d of a living host has ended: %+v", pid, st)
	}
}

// A process that is stopped when its host is killed is killed by the next host with the same Dir and Name, and by no other.
func TestNextHostKillsStoppedProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortDir(t), "s")
	h := startHost(t, dir, "canary", "serve")
	h.url(t)
	pid := processesOf(dir)[0]
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.kill()
	started(t, subprocess.Options{Dir: dir, Name: "other", Cmd: program("serve")}).Close()
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("process %d, which is that of another name: %v", pid, err)
	}
	started(t, subprocess.Options{Dir: dir, Cmd: program("serve")}).Close()
	for _, left := range processesOf(dir) {
		if left == pid {
			t.Errorf("process %d is left", pid)
		}
	}
}

// Signals to all processes of a service do not end the process: the host drains, and Close ends the process then.
func TestProcessOutlivesSignalsToItsGroup(t *testing.T) {
	t.Parallel()
	dir, mark := filepath.Join(shortDir(t), "s"), filepath.Join(t.TempDir(), "mark")
	h := startHost(t, dir, "canary", "slow")
	url := h.url(t)
	pid := processesOf(dir)[0]
	answer := make(chan string, 1)
	go func() { answer <- get(url + "?until=" + mark) }() // ends with the mark
	testutil.Until(t, patience, "a request", func() bool { return exists(mark + ".begun") })
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGTERM} {
		if err := syscall.Kill(-h.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	testutil.Until(t, patience, "Close", func() bool { return exists(h.file+".stops") && strings.HasPrefix(get(url), "502 ") })
	writeMark(mark)
	if got, want := <-answer, fmt.Sprint("200 canary ", pid); got != want {
		t.Errorf("the answer is %q, want %q", got, want)
	}
	if err := h.Wait(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, dir)
	if b, _ := os.ReadFile(h.stderr.Name()); len(b) > 0 {
		t.Errorf("something was printed: %s", b)
	}
}

// What the process writes never waits for its host, even if the host is stopped, and is what the host's standard error gets.
func TestOutputDoesNotPassThroughTheHost(t *testing.T) {
	t.Parallel()
	dir, mark := filepath.Join(shortDir(t), "s"), filepath.Join(t.TempDir(), "mark")
	h := startHost(t, dir, "canary", "talks", mark)
	h.url(t)
	if err := h.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	writeMark(mark)
	testutil.Until(t, patience, "the output", func() bool { return exists(mark + ".written") })
	h.kill()
	testutil.Until(t, patience, "the end of the process", func() bool { return len(processesOf(dir)) == 0 })
	if !exists(mark + ".ended") {
		t.Error("Serve has not returned ErrHostEnded, or main was killed")
	}
	b, err := os.ReadFile(h.stderr.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"to os.Stdout", "to os.Stderr", "to fd 1", "of a child", "after the host"} {
		if n := strings.Count(string(b), want); n < 1 || want == "to os.Stdout" && n != manyLines {
			t.Errorf("%q was written %d times", want, n)
		}
	}
}
