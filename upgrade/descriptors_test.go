//go:build linux

package upgrade_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// A candidate that has no descriptor left for the commit's state gives up, and does not take the old process for dead.
func TestCandidateWithoutDescriptorsGivesUp(t *testing.T) {
	t.Parallel()
	const most = 40
	r := startService(t, long)
	r.change(func(s *settings) { s.NoFile = most })
	before := r.mainPID()
	candidate, done := r.soaking()
	var held []net.Conn
	testutil.Until(t, patience, "the candidate has no descriptor left", func() bool {
		if c, err := net.Dial("tcp", r.addr); err == nil {
			held = append(held, c)
		}
		return lowDescriptors(candidate, most) == most
	})
	r.ask("POST", "/commit")
	r.WaitOutput(patience, "upgrade: lost the control socket")
	for _, c := range held {
		c.Close()
	}
	if a := <-done; a.Committed || !strings.Contains(a.Reason, "descriptors are missing") {
		t.Errorf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	r.waitServing(1, 0)
	if r.mainPID() != before || strings.Contains(r.Output(), "has died") {
		t.Errorf("the pid file names %d, not %d", r.mainPID(), before)
	}
}

// lowDescriptors counts the descriptors of a process with numbers below most: the others were there before the limit.
func lowDescriptors(pid, most int) (n int) {
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, e := range fds {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd < most {
			n++
		}
	}
	return n
}

// openSockets is how many sockets a process has open.
func openSockets(pid int) (n int) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// A candidate that has no room for another descriptor is taken back: it would lose what comes with the commit. Until then
// the old process goes on with what it could not take.
func TestCandidateWithoutDescriptorsIsTakenBack(t *testing.T) {
	t.Parallel()
	r := startService(t, byWeights(0.999))
	r.change(func(s *settings) { s.NoFile = 40 })
	done := r.beginUpgrade()
	r.atStep(0)
	var conns []*peer
	testutil.Until(t, patience, "the upgrade has ended", func() bool {
		for range 10 { // a candidate that is slow to take them gets less than its share
			conns = append(conns, r.connectOnly())
		}
		return len(done) > 0
	})
	if a := <-done; a.Committed || a.Phase != "bake" || !strings.Contains(a.Reason, "too many files are open") {
		t.Errorf("upgrade: %+v", a)
	}
	if got := r.sides(conns)["g1"]; got != len(conns) {
		t.Errorf("%d of %d connections are with the old process", got, len(conns))
	}
}

// A process without free descriptors refuses to upgrade and serves on.
func TestNoDescriptorsLeftIsNamed(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.NoFile = 64 })
	l := r.load(smallLoad)
	var held []net.Conn
	full := func() bool { // the admin connection needs one itself
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			held = append(held, c)
		}
		return r.ask("GET", "/status").FDs >= 60
	}
	testutil.Until(t, 20*time.Second, "the descriptors are used up", full)
	r.mustFail("start", "too many open files")
	for _, c := range held {
		c.Close()
	}
	testutil.Until(t, 20*time.Second, "descriptors are free", func() bool { return r.ask("GET", "/status").FDs < 40 })
	r.change(func(s *settings) { s.NoFile = 0 })
	r.mustRecover(l, 1)
	r.account(l).MustBeClean(t)
}

// A listener that is closed while a candidate starts does not give its number to a connection that the candidate would
// then hold open.
func TestLateCloseDoesNotLeakAConnection(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "churn" })
	r.change(func(s *settings) { s.Bad = "inspect" })
	for range 10 {
		r.mustFail("start", "exit status 7")
	}
	if out := r.Output(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "churn:") {
		t.Error("data race, or a listener that could not be opened")
	}
}
