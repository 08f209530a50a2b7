//go:build linux

package upgrade_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// says makes the candidate send an extra message, the word. It sends the word when it has sent or received a message of the
// kind after; if after is empty, at its start.
func says(word, after string) plan.Meddling {
	return plan.Meddling{Do: plan.Says, Word: word, Kind: after}
}

// A message out of order ends the attempt in every phase, and the reason names the message. Out of order are a message of
// another phase, a repeated message, an answer without a question, a message that only the old process sends, and the Ready
// byte before the commit message. The old process serves on, loses no request, and upgrades again.
func TestWordOutOfOrderEndsTheUpgrade(t *testing.T) {
	t.Parallel()
	smoke := func(s *plan.Settings) { s.Smoke = plan.SmokePasses }
	for _, c := range []struct {
		meddling plan.Meddling
		phase    string // "": any phase
		change   func(*plan.Settings)
	}{
		{says("prepared", ""), "start", nil},
		{says("serving", ""), "start", nil},
		{says("beat", ""), "start", nil},
		{says(plan.ReadyByte, ""), "", nil},
		{says("hello", "hello"), "", nil},
		{says("serving", "hello"), "", nil},
		{says("returned", "hello"), "", nil},
		{says("conn", "hello"), "", nil},
		{says("welcome", "hello"), "", nil},
		{says(plan.ReadyByte, "hello"), "", nil},
		{says("prepared", "prepared"), "", nil},
		{says("dialed", "prepared"), "", nil},
		{says("conn", "prepared"), "", nil},
		{says(plan.ReadyByte, "prepared"), "", nil},
		{says("serving", "dial"), "smoke", smoke},
		{says("beat", "dialed"), "", smoke},
		{says("returned", "share"), "bake", byWeights(0.5)},
		{says("serving", "beat"), "bake", byWeights(0.5)},
		{says(plan.ReadyByte, "share"), "bake", byWeights(0.5)},
		{says("serving", "open"), "soak", nil},
		{says("hurry", "open"), "soak", nil},
		{says("commit", "open"), "soak", nil},
		{says("elder", "open"), "soak", nil},
		{says("weight", "open"), "soak", nil},
		{says("shut", "open"), "soak", nil},
		{says("released", "open"), "soak", nil},
		{says(plan.ReadyByte, "open"), "soak", nil},
		{says("prepared", "commit"), "commit", nil},
		{says("returned", "commit"), "commit", nil},
		{says("abort", "commit"), "commit", nil},
	} {
		t.Run(c.meddling.String(), func(t *testing.T) {
			testutil.Sample(t)
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				s.Timeout, s.Soak = 10*time.Second, 200*time.Millisecond
				if c.change != nil {
					c.change(s)
				}
			})
			var l *testutil.Load
			if c.phase != "commit" { // in phase commit, the killed candidate may have received requests
				l = r.Load(smallLoad)
			}
			r.Change(func(s *plan.Settings) { s.Meddling = c.meddling })
			began := time.Now()
			a := r.Ask("POST", "/upgrade")
			if a.Committed || c.phase != "" && a.Phase != c.phase || !strings.Contains(a.Reason, " out of order in phase "+a.Phase) {
				t.Errorf("upgrade: committed %v, %s: %s", a.Committed, a.Phase, a.Reason)
			}
			if word := c.meddling.Word; !strings.Contains(a.Reason, word) && c.meddling.Kind != "" {
				t.Errorf("%q does not name the word", a.Reason)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("noticed after %v", took)
			}
			r.WaitFamily(t, 1, patience)
			r.Change(func(s *plan.Settings) { s.Meddling = plan.Meddling{} })
			if mustUpgrade(t, r); l != nil {
				r.Account(l).MustBeClean(t)
			}
		})
	}
}

// mustUpgrade makes an upgrade. If the judge waits at a step, mustUpgrade lets the judge go on.
func mustUpgrade(t *testing.T, r *testclient.Service) {
	t.Helper()
	if r.Set.Bake != plan.BakeSteps {
		r.Upgrade()
	} else {
		_ = os.Remove(filepath.Join(r.Dir, "step")) // a failed attempt may have left the file
		done := r.BeginUpgrade()
		r.AtStep(0)
		r.GoOn()
		if a := <-done; !a.Committed {
			t.Errorf("upgrade: %+v", a)
		}
	}
	r.WaitFamily(t, 1, patience)
}

// A message out of order changes nothing while an upgrade is taken back: the log names the message, and the kept values come
// back once.
func TestWordOutOfOrderWhileTakingBack(t *testing.T) {
	t.Parallel()
	for _, meddling := range []plan.Meddling{says("serving", "abort"), says("hello", "abort"), says("open", "abort"), says("returned", "returned")} {
		t.Run(meddling.String(), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Soak, s.AbortGrace = time.Minute, 5*time.Second })
			l := r.Load(smallLoad)
			r.Change(func(s *plan.Settings) { s.Meddling = meddling })
			_, done := r.Soaking()
			r.Ask("POST", "/abort")
			if a := <-done; !a.Is(upgrade.ErrAborted) {
				t.Errorf("upgrade: %+v", a)
			}
			r.MustSay("message " + meddling.Word + " out of order in phase taken back")
			r.WaitFamily(t, 1, patience)
			r.Change(func(s *plan.Settings) { s.Meddling = plan.Meddling{} })
			r.MustRecover(l, 1)
			r.Account(l).MustBeClean(t)
		})
	}
}

// An extra message that the protocol allows at that moment does not end the attempt.
func TestWordInOrderEndsNothing(t *testing.T) {
	t.Parallel()
	for _, meddling := range []plan.Meddling{says("beat", "share"), says("conn", "share"), says("dialed", "dial"), says("hurry", "commit")} {
		t.Run(meddling.String(), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { byWeights(0.5)(s); s.Smoke = plan.SmokePasses })
			r.Change(func(s *plan.Settings) { s.Meddling = meddling })
			mustUpgrade(t, r)
		})
	}
}
