//go:build linux

package upgrade_test

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// supervised is the test service as a program that calls Supervise first.
func supervised() int {
	set, _, err := readSettings()
	if err != nil {
		return exitCode(err)
	}
	code, ok := upgrade.Supervise(upgrade.Options{
		Supervisor: cmp.Or(set.Supervisor, "never"), Guard: set.Guard, MaxRestarts: set.MaxRestarts,
		Watchdog: set.Watchdog, Timeout: set.Timeout, AbortGrace: set.AbortGrace,
	})
	if ok {
		return code
	}
	return exitCode(serviceMain())
}

func (s *service) listenAdmin() (net.Listener, error) {
	if s.set.Systemd {
		return s.up.ListenPinned("systemd", "admin")
	}
	return s.up.ListenPinned("unix", filepath.Join(s.dir, "admin.sock"))
}

// crash ends a bad build when it has been the service for a moment: the old process has heard of it.
func (s *service) crash(ctx context.Context) {
	if tail, err := markOf(os.Getpid()); err != nil || !strings.Contains(tail, "bad") {
		return
	}
	var since time.Time
	for since.IsZero() || time.Since(since) < 50*time.Millisecond {
		if since.IsZero() && s.up.Status().State == "serving" {
			since = time.Now()
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
	fmt.Fprintln(os.Stderr, "this build is bad: generation", s.up.Status().Generation)
	os.Exit(3)
}

// always is a service that supervises itself.
func always(s *settings) { s.Supervisor = "always" }

// generations lists the processes that serve or drain, without the supervisor.
func (r *running) generations() []int {
	return slices.DeleteFunc(r.Family(), func(pid int) bool { return pid == r.PID() })
}

// killAll kills all generations at once, and returns them and when it did.
func (r *running) killAll() (pids []int, at time.Time) {
	r.t.Helper()
	pids = r.generations()
	at = time.Now()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			r.t.Fatal(err)
		}
	}
	return pids, at
}

// mustStop stops the service by a signal to the supervisor: status 0, and nothing is left.
func (r *running) mustStop(sig syscall.Signal) {
	r.t.Helper()
	r.Signal(sig)
	if code, err := r.Wait(patience); err != nil || code != 0 {
		r.t.Errorf("after %v: exit status %d, %v", sig, code, err)
	}
	r.WaitFamily(r.t, 0, patience)
}

// zombies counts the dead processes that nobody has waited for, among the children of a process.
func zombies(t *testing.T, parent int) (n int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range dirs {
		b, _ := os.ReadFile(path) // it may have gone
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) > 1 && fields[0] == "Z" && fields[1] == strconv.Itoa(parent) {
			n++
		}
	}
	return n
}

// A supervised service is upgraded by a SIGHUP to the supervisor, which keeps its pid, and ends with status 0 on SIGTERM.
func TestSupervisorForwardsSignals(t *testing.T) {
	t.Parallel()
	r := startService(t, always)
	if r.mainPID() == r.PID() {
		t.Fatal("the service is its own supervisor")
	}
	l := r.load(smallLoad)
	for n := range 3 {
		r.Signal(syscall.SIGHUP)
		want := "g" + strconv.Itoa(n+2)
		testutil.Until(t, patience, want+" answers", func() bool { return l.Seen(want) })
		r.WaitFamily(t, 2, patience)
	}
	r.account(l).MustBeClean(t)
	testutil.Until(t, patience, "nobody is left to be reaped", func() bool { return zombies(t, r.PID()) == 0 })
	r.mustStop(syscall.SIGTERM)
}

// The supervisor ends with the status of the main generation, and does not start again what never served.
func TestSupervisorEndsWithTheStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(*running)
		code int
	}{
		"a second SIGINT": {func(r *running) {
			p := r.dial().begin()
			r.Signal(syscall.SIGINT)
			testutil.Until(t, patience, "the service stops", func() bool { return strings.Contains(r.Output(), "upgrade: stopping") })
			r.Signal(syscall.SIGINT)
			_ = p
		}, 128 + int(syscall.SIGINT)},
		"SIGINT": {func(r *running) { r.Signal(syscall.SIGINT) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := startService(t, always)
			c.end(r)
			if code, err := r.Wait(patience); err != nil || code != c.code {
				t.Errorf("exit status %d, %v: want %d", code, err, c.code)
			}
			r.WaitFamily(t, 0, patience)
		})
	}
}
