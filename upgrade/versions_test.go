//go:build linux

package upgrade_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A peer that knows the first version of the protocol only replaces, and is replaced. What came later is not there.
func TestOldestPeerIsGoodEnough(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bake = "dial" })
	l := r.load(smallLoad)
	r.change(func(s *settings) { s.Meddle, s.Bake = "speaks:1 1", "" })
	r.upgrade()
	r.waitServing(2, 0)
	if st := r.ask("GET", "/status").Status; st.Previous != nil {
		t.Errorf("it knows of an earlier build: %+v", st.Previous)
	}
	if a := r.ask("POST", "/rollback"); !a.NotReady {
		t.Errorf("rollback: %+v", a)
	}
	r.change(func(s *settings) { s.Meddle = "" })
	r.release("another")
	r.mustRecover(l, 2)
	if st := r.ask("GET", "/status").Status; st.Previous == nil {
		t.Error("two of the newer version do not speak it")
	}
	r.account(l).MustBeClean(t)
}

// Versions, fields and frames that are not known yet do no harm, on neither side.
func TestPeerFromTheFutureIsUnderstood(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	l := r.load(smallLoad)
	r.change(func(s *settings) { s.Meddle = "future" })
	for n := range 3 {
		r.release(fmt.Sprint("another", n))
		r.upgrade()
	}
	r.change(func(s *settings) { s.Bad = "check" })
	r.waitServing(4, 0)
	r.mustFail("check", "the database is not there")
	if st := r.ask("GET", "/status").Status; st.Previous == nil {
		t.Error("nothing is known of the earlier build")
	}
	r.mustRecover(l, 4)
	r.account(l).MustBeClean(t)
}

// Two versions of the protocol that have nothing in common cannot work together. Whoever finds out says what to do, and
// the old process serves on.
func TestForeignProtocolIsRefused(t *testing.T) {
	for _, c := range []struct{ name, meddle, phase, reason string }{
		{"newer candidate", "speaks:3 9", "start", "versions 3 to 9 of the control protocol, this process 1 to 2: upgrade to a release in between first"},
		{"no candidate", "speaks:0 0", "start", "versions 0 to 0 of the control protocol"},
		{"newer old process", "refuses:it is too old", "start", "it is too old"},
		{"older old process", "chooses:0", "start", "the old process: it speaks versions 0 to 0 of the control protocol"},
		{"old process that insists", "chooses:3", "start", "the old process: it speaks versions 3 to 3 of the control protocol, this process 1 to 2: upgrade to a release in between first"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := startService(t, nil)
			l := r.load(smallLoad)
			r.change(func(s *settings) { s.Meddle = c.meddle })
			r.mustFail(c.phase, c.reason)
			r.change(func(s *settings) { s.Meddle = "" })
			r.mustRecover(l, 1)
			r.account(l).MustBeClean(t)
		})
	}
}

const noFrame = "what came on the control socket is not a frame"

// Who sends rubbish before the commit is as good as dead, in every phase and on both sides, and the old process serves
// on at once.
func TestRubbishBeforeTheCommitEndsTheUpgrade(t *testing.T) {
	for _, c := range []struct{ meddle, phase string }{
		{"rubbish:hello", "start"},
		{"retort:hello", ""}, // in whichever phase it is found
		{"rubbish:welcome", "start"},
		{"rubbish:prepared", "check"},
		{"retort:prepared", ""},
		{"rubbish:open", "check"},
		{"retort:open", "soak"},
		{"rubbish:previous", "check"},
		{"retort:previous", ""},
		{"rubbish:commit", "soak"},
	} {
		t.Run(c.meddle, func(t *testing.T) {
			t.Parallel()
			r := startService(t, func(s *settings) { s.Timeout, s.Soak = 10*time.Second, 200*time.Millisecond })
			l := r.load(smallLoad)
			r.change(func(s *settings) { s.Meddle = c.meddle })
			r.release("another") // so that there is an earlier build to tell of
			began := time.Now()
			a := r.ask("POST", "/upgrade")
			if a.Committed || c.phase != "" && a.Phase != c.phase || !strings.Contains(a.Reason, noFrame) {
				t.Errorf("upgrade: committed %v, %s: %s", a.Committed, a.Phase, a.Reason)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("noticed after %v", took)
			}
			r.WaitFamily(t, 1, patience)
			r.change(func(s *settings) { s.Meddle = "" })
			r.mustRecover(l, 1)
			r.account(l).MustBeClean(t)
		})
	}
}

// Rubbish in place of the word that it serves is a commit that failed, and rubbish after it is nothing.
func TestRubbishAroundTheCommit(t *testing.T) {
	for _, c := range []struct {
		meddle    string
		committed bool
	}{
		{"rubbish:serving", false}, {"retort:serving", true}, {"retort:commit", true},
	} {
		t.Run(c.meddle, func(t *testing.T) {
			t.Parallel()
			r := startService(t, nil)
			r.change(func(s *settings) { s.Meddle = c.meddle })
			a := r.ask("POST", "/upgrade")
			if a.Committed != c.committed || !a.Committed && (a.Phase != "commit" || !strings.Contains(a.Reason, noFrame)) {
				t.Errorf("upgrade: committed %v, %s: %s", a.Committed, a.Phase, a.Reason)
			}
			r.WaitFamily(t, 1, patience)
			r.change(func(s *settings) { s.Meddle = "" })
			r.upgrade()
		})
	}
}

// Rubbish while an upgrade is taken back makes it no longer than the grace.
func TestRubbishWhileTakingBack(t *testing.T) {
	for _, meddle := range []string{"rubbish:abort", "rubbish:returned", "rubbish:released", "retort:returned"} {
		t.Run(meddle, func(t *testing.T) {
			t.Parallel()
			r := startService(t, func(s *settings) { s.Soak, s.AbortGrace = time.Minute, 2*time.Second })
			l := r.load(smallLoad)
			r.change(func(s *settings) { s.Meddle = meddle })
			_, done := r.soaking()
			r.ask("POST", "/abort")
			if a := <-done; !a.Aborted {
				t.Errorf("upgrade: %+v", a)
			}
			r.WaitFamily(t, 1, patience)
			r.change(func(s *settings) { s.Meddle = "" })
			r.mustRecover(l, 1)
			r.account(l).MustBeClean(t)
		})
	}
}
