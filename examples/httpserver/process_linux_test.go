package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// The new cart in a process of its own may be killed: the old cart answers until it is there again, but for the POSTs that the process
// had got. An upgrade gives the new process of the service a cart of its own.
func TestNewCartInItsOwnProcess(t *testing.T) {
	s := startSite(t, "-canary-bin", build(t, "v1"))
	s.weigh("100%")
	s.WaitFamily(t, 2, patience)
	l := s.customers()
	pid := s.status().Cart.PID
	const kills = 3
	for range kills {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := pid
		testutil.Until(t, patience, "another process has the cart", func() bool {
			pid = s.status().Cart.PID
			return pid != 0 && pid != killed
		})
	}
	if st := s.status().Cart; st.Failures != kills || st.Starts != kills+1 || !strings.Contains(st.Reason, "killed") {
		t.Errorf("the status of the process is %+v", st)
	}
	s.release()
	s.post("/upgrade", 200)
	s.WaitFamily(t, 2, patience)
	if st := s.status().Cart; st.PID == pid || st.Starts != 1 {
		t.Errorf("after the upgrade, the status of the process is %+v", st)
	}
	if cart := s.ask("GET", "/cart", ""); cart.body != "canary\n" {
		t.Errorf("the cart is %q", cart.body)
	}
	failed := l.Stop().Failed
	for _, f := range failed {
		if f.Status != 502 {
			t.Errorf("lost: %v", f)
		}
	}
	if most := kills * 8; len(failed) > most { // a client waits for its answer, and the process had got its POST
		t.Errorf("%d requests had no answer, and the killed processes can have had %d", len(failed), most)
	}
	s.signal(syscall.SIGTERM)
	s.mustEnd(0)
	s.WaitFamily(t, 0, patience)
}

// A program that is no cart is refused with the reason, by the first process and by an upgrade.
func TestWrongCartIsRefused(t *testing.T) {
	code, out := runCommand(t, testutil.Cfg{Dir: t.TempDir()}, build(t, "v1"), "-addr", "127.0.0.1:0", "-admin", "", "-canary-bin", "/bin/true")
	if code != 1 || !strings.Contains(out, "-canary-bin /bin/true: ") || !strings.Contains(out, "has ended before it served") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	code, out = runCommand(t, testutil.Cfg{}, build(t, "v1"), "cart")
	if code != 1 || !strings.Contains(out, "no host has started this process") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}
