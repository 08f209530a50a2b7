//go:build linux

package upgrade_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// The service when no process reads its log. Its standard output and error are a pipe.

// supervisions are the services with and without a supervisor.
var supervisions = map[string]string{"alone": "never", "supervised": "always"}

// piped is a service that writes to a pipe.
type piped struct {
	*testclient.Service
	reader, writer *os.File
}

func startPiped(t *testing.T, supervisor string, env ...string) piped {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close(); writer.Close() })
	p := piped{testclient.New(t, func(s *plan.Settings) { s.Supervisor, s.Quiet = supervisor, true }), reader, writer}
	p.Proc = testutil.Start(t, "service", testutil.Cfg{Env: append(env, p.Env()), Out: writer})
	testutil.Until(t, patience, "the service serves", func() bool { return p.ServesWithout(0) })
	p.Addr = p.Read("addr")
	return p
}

// fill writes until there is no room in the pipe.
func (p piped) fill(t *testing.T) {
	t.Helper()
	// The pipe is opened again, because O_NONBLOCK on writer would also be set for the service.
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", p.writer.Fd()), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for size := 4096; size > 0; {
		if _, err = unix.Write(fd, bytes.Repeat([]byte("\n"), size)); errors.Is(err, unix.EAGAIN) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// mustGoOn upgrades the service by SIGHUP. If there is a supervisor, mustGoOn kills the service and waits until it is started
// again. Then it stops the service by SIGTERM, which must not take longer than the flushes of a log.
func (p piped) mustGoOn(t *testing.T, supervisor string) {
	t.Helper()
	first := p.MainPID()
	p.Signal(syscall.SIGHUP)
	p.WaitServing(2, first)
	if supervisor == "always" {
		second := p.MainPID()
		p.KillAll()
		p.WaitServing(3, second)
	}
	main := p.MainPID()
	begin := time.Now()
	if supervisor == "always" {
		p.Signal(syscall.SIGTERM)
	} else {
		p.SignalMain(syscall.SIGTERM)
	}
	p.WaitFamily(t, 0, patience)
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("the service has ended %v after SIGTERM", took)
	}
	if p.MainPID() == main {
		t.Error("the pid file is left")
	}
}

// A service outlives the reader of its log: it is upgraded, started again and stopped.
func TestServiceOutlivesTheReaderOfItsLog(t *testing.T) {
	t.Parallel()
	for name, supervisor := range supervisions {
		t.Run(name, func(t *testing.T) {
			p := startPiped(t, supervisor)
			p.reader.Close()
			p.mustGoOn(t, supervisor)
		})
	}
}

// Nothing waits for a log that nobody reads: the service is upgraded, started again and stopped.
func TestFullLogHoldsNothingUp(t *testing.T) {
	t.Parallel()
	for name, supervisor := range supervisions {
		t.Run(name, func(t *testing.T) {
			p := startPiped(t, supervisor)
			p.fill(t)
			p.mustGoOn(t, supervisor)
		})
	}
}

// When a full log is read again, it has the lines for which there was room, and then the number of the missing lines.
func TestFullLogSaysHowManyLinesAreMissing(t *testing.T) {
	t.Parallel()
	p := startPiped(t, "never")
	p.fill(t)
	p.LinkTo(filepath.Join(p.Dir, "nothing"))
	const failures = 300
	for range failures {
		if a := p.Ask("POST", "/upgrade"); a.Committed {
			t.Fatal("nothing was started and committed")
		}
	}
	p.LinkTo(testclient.Binary(t))
	said, missing := 0, 0
	log := bufio.NewScanner(p.reader)
	for missing == 0 && log.Scan() {
		if strings.Contains(log.Text(), "upgrade: failed") {
			said++
		}
		if _, n, ok := strings.Cut(log.Text(), "lines are missing here"); ok {
			if _, err := fmt.Sscanf(n[strings.Index(n, "dropped="):], "dropped=%d", &missing); err != nil {
				t.Fatal(err)
			}
		}
	}
	if missing == 0 || said+missing != failures {
		t.Errorf("%d lines are there and %d are missing, of %d: %v", said, missing, failures, log.Err())
	}
	go func() { _, _ = io.Copy(io.Discard, p.reader) }() // ends when the pipe is closed
	first := p.MainPID()
	p.Signal(syscall.SIGHUP)
	p.WaitServing(2, first)
}

// The service does not die of SIGPIPE, but its child processes do not inherit this behaviour.
func TestChildrenDoNotInheritTheHandlingOfSIGPIPE(t *testing.T) {
	t.Parallel()
	for name, supervisor := range supervisions {
		t.Run(name, func(t *testing.T) {
			r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor = supervisor }, plan.HelpersEnv+"=1")
			resp, err := http.Get("http://" + r.Addr + "/helper")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			status := ""
			testutil.Until(t, patience, "the child runs", func() bool {
				status = statusOfChild(r.MainPID(), "/bin/sleep\x00"+string(plan.HelperOfHandler)+"\x00")
				return status != ""
			})
			for _, field := range []string{"SigIgn", "SigBlk"} {
				if got := fieldOf(status, field); got != "0000000000000000" {
					t.Errorf("%s of the child is %s", field, got)
				}
			}
		})
	}
}

// statusOfChild returns /proc/PID/status of a child with the given arguments; "" if there is none.
func statusOfChild(parent int, args string) string {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		b, _ := os.ReadFile(path)
		status, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "status"))
		if string(b) == args && fieldOf(string(status), "PPid") == fmt.Sprint(parent) {
			return string(status)
		}
	}
	return ""
}

func fieldOf(status, name string) string {
	_, rest, _ := strings.Cut(status, name+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}
