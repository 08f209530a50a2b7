package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A release that fails before its commit is taken back with its reason, while the old process serves on, and the next
// good one takes over. Nobody loses a request.
func TestBadReleases(t *testing.T) {
	for _, c := range []struct{ fail, phase, reason string }{
		{"start", "start", "exit status 7"},
		{"hang", "start", "did not get to upgrade.New within 3s"},
		{"check", "check", `check "self-test": this release is bad`},
		{"after-ready", "check soak commit", "exit status 7"}, // it does not know where the old process is by then
	} {
		t.Run(c.fail, func(t *testing.T) {
			timeout := "10s"
			if c.fail == "hang" {
				timeout = "3s"
			}
			s := startSite(t, "-upgrade-timeout", timeout)
			l := s.load()
			s.releaseBad(c.fail)
			if a := s.post("/upgrade", 500); !slices.Contains(strings.Fields(c.phase), string(a.Phase)) || !strings.Contains(a.Reason, c.reason) {
				t.Errorf("the answer is %+v", a)
			}
			if r := s.ask("GET", "/version", ""); r.version() != "v1" || r.generation() != 1 {
				t.Errorf("generation %d of %s answers", r.generation(), r.version())
			}
			s.WaitFamily(t, 1, patience)
			s.release()
			s.post("/upgrade", 200)
			s.mustLoseNothing(l)
			if r := s.ask("GET", "/version", ""); r.version() != "v2" {
				t.Errorf("%s answers after a good upgrade", r.version())
			}
		})
	}
}

// A release that exits after its commit was a good one for the upgrade. The supervisor tries it once more, and goes back to
// the one before. Nobody is refused meanwhile.
func TestFailAfterCommit(t *testing.T) {
	s := startSite(t)
	s.releaseBad("after-commit=50ms")
	l := s.load()
	s.post("/upgrade", 200)
	testutil.Until(t, patience, "v1 serves again", func() bool {
		r, err := s.operate(t.Context(), "GET", "/status")
		return err == nil && r.version() == "v1" && r.generation() == 4
	})
	report := l.Stop()
	for _, f := range report.Failed {
		if f.Outcome == testutil.DialRefused {
			t.Fatalf("a connection was refused: %v", f)
		}
	}
	last := s.status().Upgrade.Last
	if last == nil || last.Kind != "crash-rollback" || last.From != "v2" || !strings.Contains(last.Reason, "exit status 7") {
		t.Errorf("the status says %+v", last)
	}
	t.Logf("%v", report)
	s.signal(syscall.SIGTERM)
	s.mustEnd(0)
}

// How a first process can be bad, and how not: what makes upgrades fail does not touch it.
func TestFailOfTheFirst(t *testing.T) {
	for _, c := range []struct {
		fail, path string
		want       int // 0: no answer
	}{
		{"errors=1", "/version", 500},
		{"errors=1", "/healthz", 200},
		{"errors=0", "/version", 200},
		{"panic=1", "/version", 0},
		{"panic=1", "/readyz", 200},
		{"slow=30ms", "/version", 200},
		{"start", "/version", 200},
		{"check", "/version", 200},
		{"hang", "/version", 200},
		{"after-ready", "/version", 200},
		{"after-commit=1ms", "/version", 200},
		{"leak-fd", "/version", 200},
		{"leak-memory=1", "/version", 200},
		{"cart-errors=1", "/cart", 200},
	} {
		s := startSite(t, "-fail="+c.fail)
		r, err := oneShot().Get("http://" + s.addr + c.path)
		switch {
		case c.want == 0:
			if err == nil {
				t.Errorf("-fail=%s: %s is answered with %s", c.fail, c.path, r.Status)
			}
			s.WaitOutput(patience, "this release is bad: it panics")
		case err != nil || r.StatusCode != c.want || r.Header.Get("X-Version") != "v1":
			t.Errorf("-fail=%s: %s is answered with %+v, %v", c.fail, c.path, r, err)
		}
		if err == nil {
			r.Body.Close()
		}
	}
}

// A share of the requests means a share.
func TestFailShare(t *testing.T) {
	s := startSite(t, "-fail=errors=0.5")
	l := testutil.StartLoad(t, testutil.LoadOptions{Addr: s.addr, KeepAlive: 2, Path: "/echo"})
	testutil.Until(t, patience, "enough requests", func() bool { return l.Total() > 400 })
	r := l.Stop()
	if bad := r.Counts[testutil.BadStatus]; bad+r.Counts[testutil.OK] != r.Total || bad < r.Total/4 || bad > r.Total*3/4 {
		t.Errorf("about half should be errors: %v", r)
	}
}

// A release that leaks does so once it serves.
func TestFailLeak(t *testing.T) {
	s := startSite(t)
	s.releaseBad("leak-fd")
	s.post("/upgrade", 200)
	open := func() int {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.mainPID()))
		if err != nil {
			t.Skip("descriptors cannot be counted here: ", err)
		}
		return len(fds)
	}
	before := open()
	for range 50 {
		s.ask("GET", "/version", "")
	}
	if n := open() - before; n < 45 {
		t.Errorf("%d descriptors more after 50 requests", n)
	}
}

// What -X main.fail sets is the default of -fail, and is checked in the same way.
func TestFailAtLinkTime(t *testing.T) {
	defer func(old string) { fail = old }(fail)
	fail = "errors=0.2"
	var c config
	if err := c.parse(nil); err != nil || c.fail.String() != "errors" {
		t.Errorf("%+v, %v", c.fail, err)
	}
	if err := c.parse([]string{"-fail="}); err != nil || c.fail.String() != "" {
		t.Errorf("%+v, %v: a flag should turn it off", c.fail, err)
	}
	fail = "nonsense"
	if err := c.parse(nil); err == nil || !strings.Contains(err.Error(), "main.fail") {
		t.Errorf("%v", err)
	}
}
