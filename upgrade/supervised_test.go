//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
)

// A SIGHUP to the supervisor upgrades the service, and the pid of the supervisor does not change. A SIGTERM ends the service
// with status 0.
func TestSupervisorForwardsSignals(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	if r.MainPID() == r.PID() {
		t.Fatal("the service is its own supervisor")
	}
	l := r.Load(smallLoad)
	for n := range 3 {
		open, before := r.Dial().Begin(), r.MainPID() // the old generation has a request to drain
		r.Signal(syscall.SIGHUP)
		want := "g" + strconv.Itoa(n+2)
		testutil.Until(t, patience, want+" answers", func() bool { return l.Seen(want) })
		r.WaitServing(n+2, before)
		if st := r.Status(); len(st.Draining) != 1 || st.Draining[0].PID != before {
			t.Errorf("%s knows %+v of the generation before, %d", want, st.Draining, before)
		}
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.MainPID())); err != nil || strings.Fields(string(b))[3] != strconv.Itoa(r.PID()) {
			t.Errorf("%s is no child of %d: %s, %v", want, r.PID(), b, err)
		}
		open.Finish()
		r.WaitFamily(t, 2, patience)
	}
	r.Account(l).MustBeClean(t)
	testutil.Until(t, patience, "nobody is left to be reaped", func() bool { return testclient.Zombies(t, r.PID()) == 0 })
	r.MustStop(syscall.SIGTERM)
}

// SIGABRT, for example from systemd's watchdog, is passed on so that the stacks are printed, and ends the service. No process
// is started again, even if the main generation cannot handle the signal.
func TestAbortEndsTheService(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stopped bool
		code    int
	}{"running": {false, 2}, "stopped": {true, 128 + int(syscall.SIGKILL)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, always)
			r.WaitKnown()
			if c.stopped {
				r.SignalMain(syscall.SIGSTOP)
				testutil.Until(t, patience, "the main generation is stopped", func() bool { return testclient.Stopped(r.MainPID()) })
			}
			r.Signal(syscall.SIGABRT)
			if code, err := r.Wait(patience); err != nil || code != c.code {
				t.Errorf("exit status %d, %v: want %d", code, err, c.code)
			}
			r.WaitFamily(t, 0, patience)
		})
	}
}

// The supervisor ends with the status of the main generation. It does not start a process again that has never served.
func TestSupervisorEndsWithTheStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(*testclient.Service)
		code int
	}{
		"a second SIGINT": {func(r *testclient.Service) {
			p := r.Dial().Begin()
			r.Signal(syscall.SIGINT)
			testutil.Until(t, patience, "the service stops", func() bool { return strings.Contains(r.Output(), "upgrade: stopping") })
			r.Signal(syscall.SIGINT)
			_ = p
		}, 128 + int(syscall.SIGINT)},
		"SIGINT": {func(r *testclient.Service) { r.Signal(syscall.SIGINT) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := testclient.Start(t, always)
			c.end(r)
			if code, err := r.Wait(patience); err != nil || code != c.code {
				t.Errorf("exit status %d, %v: want %d", code, err, c.code)
			}
			r.WaitFamily(t, 0, patience)
		})
	}
}
