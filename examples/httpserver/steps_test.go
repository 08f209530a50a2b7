package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// A good release earns its traffic step by step, and nobody loses a request.
func TestStepsCommitAGoodRelease(t *testing.T) {
	s := startSite(t, "-steps", "20%:2s,50%:200ms,100%:2s")
	l := s.load()
	s.release()
	outcome := s.later(t.Context(), "/upgrade")
	testutil.Until(t, patience, "the last step is seen", func() bool {
		p := s.status().Steps
		return p != nil && p.Step == 3 && p.Weight == 1
	})
	if a := s.decoded(<-outcome, 200); a.Phase != "commit" {
		t.Errorf("the outcome is %+v", a)
	}
	s.mustLoseNothing(l)
	if r := s.ask("GET", "/version", ""); r.version() != "v2" {
		t.Errorf("%s answers", r.version())
	}
	s.WaitFamily(t, 1, patience)
}

// A release that answers with errors, panics or is slow is found out at a small weight and taken back.
func TestStepsTakeABadReleaseBack(t *testing.T) {
	for fail, reason := range map[string]string{
		"errors=0.5": "% errors in", "panic=0.5": "% errors in", "slow=300ms": "on average in the new process",
	} {
		t.Run(fail, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, "-steps", "20%:1m,100%:1s")
			l := s.load()
			s.releaseBad(fail)
			began := time.Now()
			a := s.post("/upgrade?force=1", 500)
			if a.Phase != "bake" || !strings.Contains(a.Reason, reason) {
				t.Errorf("the outcome is %+v", a)
			}
			t.Logf("taken back after %v: %s", time.Since(began).Round(time.Millisecond), a.Reason)
			answered := l.Total()
			testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+50 })
			for _, f := range l.Stop().Failed {
				if f.Status != 500 && fail != "panic=0.5" {
					t.Errorf("lost: %v", f)
				}
			}
			if st := s.status().Upgrade; st.Generation != 1 || st.State != "serving" {
				t.Errorf("after the failure: %+v", st)
			}
		})
	}
}

// A release that nobody has asked is not promoted for lack of data.
func TestStepsNeedEvidence(t *testing.T) {
	s := startSite(t, "-steps", "50%:100ms,100%:100ms")
	s.release()
	if a := s.post("/upgrade", 500); a.Phase != "bake" || !strings.Contains(a.Reason, "inconclusive") {
		t.Errorf("the outcome is %+v", a)
	}
}

// A commit by hand ends the steps, and so does an abort.
func TestStepsByHand(t *testing.T) {
	s := startSite(t, "-steps", "5%:1h")
	s.release()
	for n, do := range []string{"/abort", "/commit"} {
		outcome := s.later(t.Context(), "/upgrade")
		s.untilPhase("bake")
		testutil.Until(t, patience, "the step is seen", func() bool { return s.status().Steps != nil })
		s.post(do, 200)
		s.decoded(<-outcome, []int{500, 200}[n])
	}
	if r := s.ask("GET", "/version", ""); r.version() != "v2" {
		t.Errorf("%s", fmt.Sprint(r.version(), " answers"))
	}
}
