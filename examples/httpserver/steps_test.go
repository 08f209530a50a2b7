package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/internal/testutil"
)

// judgedReleases is the number of releases of each kind whose judgement is tested.
var judgedReleases = flag.Int("midair.releases", 1, "the number of good releases and carts, and of bad ones of each kind")

// judgedSteps is a plan whose steps end by the number of requests of the candidate, however fast the machine is.
const judgedSteps = "10%:200ms:1000,25%:200ms:5000,50%:200ms:500,100%:200ms"

// freshLoad keeps clients asking that open a connection for each request: chance assigns each connection, so each request is
// evidence.
func (s *site) freshLoad(path string) *testutil.Load {
	s.t.Helper()
	l := testutil.StartLoad(s.t, testutil.LoadOptions{Addr: s.addr, KeepAlive: 1, New: 9, Path: path})
	testutil.Until(s.t, patience, "the load is on", func() bool { return l.Total() > 50 })
	return l
}

// replace upgrades, and waits as long as the steps last.
func (s *site) replace() error {
	_, err := admin.NewClient("unix:"+s.file("admin")).Replace(s.t.Context(), "/upgrade")
	return err
}

// A good release gets its traffic step by step, and is committed. No request is lost.
func TestStepsCommitAGoodRelease(t *testing.T) {
	for n := range *judgedReleases {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := startSite(t, "-steps", judgedSteps)
			s.release()
			l := s.freshLoad("/echo")
			done := make(chan error, 1)
			go func() { done <- s.replace() }() // ends with the upgrade
			var last siteView
			testutil.Until(t, 10*patience, "the last step is seen", func() bool {
				last = s.status()
				return last.Release.Weight == 1 || len(done) > 0
			})
			t.Logf("%v; %d requests", last.Release, l.Total())
			if err := <-done; err != nil {
				t.Error(err)
			}
			s.mustLoseNothing(l)
			if r := s.ask("GET", "/version", ""); r.version() != "v2" {
				t.Errorf("%s answers", r.version())
			}
			s.WaitFamily(t, 1, patience)
		})
	}
}

// A release that is worse is taken back before it has half of the connections: one that answers 2 % of its requests with
// errors, one that is three times as slow, one that panics in one of 500 requests, and one that leaks until it dies. The old
// process serves on, and no request is lost but those that the bad release had.
func TestStepsTakeABadReleaseBack(t *testing.T) {
	for _, c := range []struct{ fail, path, reason string }{
		{"errors=0.02", "/echo", "worse than stable"},
		{"slow=10ms", "/slow?d=5ms", "worse than stable"},
		{"panic=0.002", "/echo", ""}, // by the budget of panics, or by the evidence
		{"leak-memory=300", "/echo", "killed"},
	} {
		for n := range *judgedReleases {
			t.Run(fmt.Sprint(c.fail, " ", n), func(t *testing.T) { takenBack(t, c.fail, c.path, c.reason) })
		}
	}
}

func takenBack(t *testing.T, fail, path, reason string) {
	s := startSite(t, "-steps", judgedSteps)
	s.releaseBad(fail)
	l := s.freshLoad(path)
	err, refusal := s.replace(), (*admin.Refusal)(nil)
	if !errors.As(err, &refusal) || refusal.Status != 500 || refusal.Phase != "bake" || !strings.Contains(refusal.Reason, reason) {
		t.Errorf("the outcome is %v", err)
	}
	st := s.status()
	t.Logf("%v\n%v", st.Release, err)
	if st.Release.Step < 1 || st.Release.Step > 2 || st.Upgrade.Generation != 1 || st.Upgrade.State != "serving" {
		t.Errorf("taken back in step %d by generation %d, which is %s", st.Release.Step, st.Upgrade.Generation, st.Upgrade.State)
	}
	answered := l.Total()
	testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+50 })
	lost := 0
	for _, f := range l.Stop().Failed {
		switch answers := f.Status == 500 && f.Version == "v2"; {
		case strings.HasPrefix(fail, "errors") && !answers:
			t.Errorf("lost: %v", f)
		case strings.HasPrefix(fail, "slow"):
			t.Errorf("lost: %v", f)
		default:
			lost++
		}
	}
	t.Logf("%d requests failed in the bad release", lost)
}

// A release that nobody has asked is not promoted for lack of requests. The status says what the step waits for.
func TestStepsNeedRequests(t *testing.T) {
	s := startSite(t, "-steps", "50%:10ms:20,100%:10ms")
	s.release()
	outcome := s.later(t.Context(), "/upgrade")
	testutil.Until(t, patience, "the step waits", func() bool { return s.status().Release.Waits == "0 of 20 requests of the canary" })
	l := s.freshLoad("/echo")
	s.decoded(<-outcome, 200)
	s.mustLoseNothing(l)
}

// A commit by hand ends the steps, and so do a promotion, an abort, and the death of the candidate. A pause keeps the weight.
func TestStepsByHand(t *testing.T) {
	s := startSite(t, "-steps", "5%:1h")
	s.release()
	for _, c := range []struct {
		do     string
		status int
	}{{"/abort", 500}, {"kill", 500}, {"/promote", 200}, {"/commit", 200}} {
		outcome := s.later(t.Context(), "/upgrade?force=1")
		s.untilPhase("bake")
		testutil.Until(t, patience, "the step is seen", func() bool { return s.status().Release.Step == 1 })
		s.post("/pause?reason=lunch", 200)
		if r := s.status().Release; r.State != "paused" || r.Weight != .05 || r.Reason != "lunch" {
			t.Errorf("after the pause: %v %s: %s", r, r.State, r.Reason)
		}
		s.post("/resume", 200)
		if r := s.status().Release; r.State != "ramping" {
			t.Errorf("after the resumption the state is %s", r.State)
		}
		if c.do == "kill" {
			signalPID(s.status().Upgrade.Candidate.PID, os.Kill)
		} else {
			s.post(c.do, 200)
		}
		s.decoded(<-outcome, c.status)
	}
	if r := s.ask("GET", "/version", ""); r.version() != "v2" || r.generation() < 3 {
		t.Errorf("generation %d of %s answers", r.generation(), r.version())
	}
	s.post("/pause?rollout=nonsense", 400)
	s.post("/promote", 409)
}
