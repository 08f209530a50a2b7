//go:build linux

package upgrade_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// If a candidate has no free descriptor for the values in the commit message, the upgrade fails. The candidate does not take
// the old process for dead.
func TestCandidateWithoutDescriptorsGivesUp(t *testing.T) {
	t.Parallel()
	const most = 40
	r := testclient.Start(t, long)
	r.Change(func(s *plan.Settings) { s.NoFile = most })
	before := r.MainPID()
	candidate, done := r.Soaking()
	var held []net.Conn
	testutil.Until(t, patience, "the candidate has no descriptor left", func() bool {
		if c, err := net.Dial("tcp", r.Addr); err == nil {
			held = append(held, c)
		}
		return lowDescriptors(candidate, most) == most
	})
	r.Ask("POST", "/commit")
	r.WaitOutput(patience, "upgrade: lost the control socket")
	for _, c := range held {
		c.Close()
	}
	if a := <-done; a.Committed || !strings.Contains(a.Reason, "descriptors are missing") {
		t.Errorf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	r.WaitServing(1, 0)
	if r.MainPID() != before || strings.Contains(r.Output(), "has died") {
		t.Errorf("the pid file names %d, not %d", r.MainPID(), before)
	}
}

// lowDescriptors counts the descriptors of a process with numbers below most. Descriptors with other numbers were opened
// before the limit was set.
func lowDescriptors(pid, most int) (n int) {
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, e := range fds {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd < most {
			n++
		}
	}
	return n
}

// A candidate that has no free descriptor is taken back, because it would lose the files of the commit message. The old
// process serves the connections that the candidate could not take.
func TestCandidateWithoutDescriptorsIsTakenBack(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, byWeights(0.999))
	r.Change(func(s *plan.Settings) { s.NoFile = 40 })
	done := r.BeginUpgrade()
	r.AtStep(0)
	var conns []*testclient.Peer
	testutil.Until(t, patience, "the upgrade has ended", func() bool {
		for range 10 { // a candidate that takes connections slowly gets less than its share
			conns = append(conns, r.Connect())
		}
		return len(done) > 0
	})
	if a := <-done; a.Committed || a.Phase != "bake" || !strings.Contains(a.Reason, "too many files are open") {
		t.Errorf("upgrade: %+v", a)
	}
	if got := testclient.Sides(t, conns)["g1"]; got != len(conns) {
		t.Errorf("%d of %d connections are with the old process", got, len(conns))
	}
}

// A process without free descriptors refuses to upgrade and serves on.
func TestNoDescriptorsLeftIsNamed(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.NoFile = 64 })
	l := r.Load(smallLoad)
	var held []net.Conn
	full := func() bool { // the admin connection needs a descriptor, too
		c, err := net.Dial("tcp", r.Addr)
		if err == nil {
			held = append(held, c)
		}
		return r.Ask("GET", "/status").FDs >= 60
	}
	testutil.Until(t, patience, "the descriptors are used up", full)
	r.MustFail("start", "too many open files")
	for _, c := range held {
		c.Close()
	}
	testutil.Until(t, patience, "descriptors are free", func() bool { return r.Ask("GET", "/status").FDs < 40 })
	r.Change(func(s *plan.Settings) { s.NoFile = 0 })
	r.MustRecover(l, 1)
	r.Account(l).MustBeClean(t)
}

// If a listener is closed while a candidate starts, no connection gets its descriptor number: the candidate would inherit the
// connection and hold it open.
func TestLateCloseDoesNotLeakAConnection(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.FirstChurns })
	r.Change(func(s *plan.Settings) { s.Bad = plan.InspectAtStart })
	for range 10 {
		r.MustFail("start", "exit status 7")
	}
	if out := r.Output(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "churn:") {
		t.Error("data race, or a listener that could not be opened")
	}
}

// If connections have used up all descriptors of a service, the service can be upgraded, because it has a reserve of
// descriptors. The outcome is recorded, kept values pass, and no connection is lost.
func TestUpgradeGoesOnWhenConnectionsHaveAllDescriptors(t *testing.T) {
	t.Parallel()
	for name, supervisor := range supervisions {
		t.Run(name, func(t *testing.T) {
			const most = 512
			r := testclient.Start(t, func(s *plan.Settings) { s.NoFile, s.Supervisor = most, supervisor })
			main := r.MainPID()
			var held []net.Conn
			testutil.Until(t, patience, "the descriptors are used up", func() bool {
				for range 8 {
					c, err := net.DialTimeout("tcp", r.Addr, time.Second)
					if err != nil {
						t.Fatal(err)
					}
					held = append(held, c)
				}
				return lowDescriptors(main, most) == most && backlog(t, r.Addr) > most/8 // more than the size of the reserve
			})
			r.Change(func(s *plan.Settings) { s.NoFile = 0 })
			request(t, r).mustBeCommitted(t, 2)
			for _, c := range held {
				c.Close()
			}
			r.WaitServing(2, main)
		})
	}
}

// backlog is how many connections wait in a listening socket of TCP over IPv4.
func backlog(t *testing.T, addr string) (n int) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := strconv.Atoi(port)
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", p)) && f[3] == "0A" {
			_, queue, _ := strings.Cut(f[4], ":")
			waiting, _ := strconv.ParseInt(queue, 16, 64)
			n += int(waiting)
		}
	}
	return n
}
