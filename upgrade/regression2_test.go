//go:build linux

package upgrade_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// An address that was closed and opened again is the same listener for the next generation.
func TestReopenedAddressIsInherited(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "reopen twice" })
	r.keepsAddress()
}

// A listener that the next release wants pinned is the one that this release has not pinned.
func TestPinnedLaterIsInherited(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "reopen" })
	r.change(func(s *settings) { s.Bad = "pin" })
	r.keepsAddress()
}

// keepsAddress upgrades to a release that asks for the very address that this one got.
func (r *running) keepsAddress() {
	r.t.Helper()
	r.change(func(s *settings) { s.Addr = r.addr })
	l := r.load(smallLoad)
	r.upgrade()
	testutil.Until(r.t, patience, "the new release answers", func() bool { return l.Seen("g2") })
	r.account(l).MustBeClean(r.t)
}

// A candidate that is told to stop while both accept gives its state back, as one that is taken back does.
func TestTerminatedCandidateGivesStateBack(t *testing.T) {
	t.Parallel()
	r := startService(t, long)
	candidate, done := r.soaking()
	p := r.connect("g2")
	var n int
	for range 50 {
		n = p.ask("/add")
	}
	p.c.Close()
	_ = syscall.Kill(candidate, syscall.SIGTERM)
	if a := <-done; !a.Aborted || a.Phase != "soak" {
		t.Errorf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	if got := r.dial().ask("/add"); got <= n {
		t.Errorf("the old process says %d after the candidate had said %d", got, n)
	}
}

// A TERM to a candidate whose old process dies at the same time ends it, whichever it finds first. If it could still tell
// the old process, it starts anew as one that was taken back does: the kernel continues a stopped process when its parent
// dies, which may be a moment before the parent's sockets are closed.
func TestTermIsNotSwallowedWhenTheOldProcessDies(t *testing.T) {
	for n := range 6 { // it finds both at once, and takes the one or the other first
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			r := startService(t, long)
			candidate, done := r.soaking()
			_ = syscall.Kill(candidate, syscall.SIGSTOP)
			testutil.Until(t, patience, "every thread of the candidate is stopped", func() bool { return stopped(candidate) })
			_ = syscall.Kill(candidate, syscall.SIGTERM)
			r.Kill()
			<-done
			_ = syscall.Kill(candidate, syscall.SIGCONT)
			testutil.Until(t, patience, "the candidate has ended", func() bool { return !slices.Contains(r.Family(), candidate) })
		})
	}
}

// A candidate that has given up still answers what it has begun, and starts anew if the old process dies meanwhile.
func TestCandidateThatFailedSurvivesTheOldProcess(t *testing.T) {
	t.Parallel()
	r := startService(t, staying)
	candidate, done := r.soaking()
	begun, other := r.connect("g2").begin(), r.connect("g2")
	_ = syscall.Kill(candidate, syscall.SIGTERM)
	other.waitEnding() // it has given up
	r.Kill()
	<-done
	begun.finish()
	r.waitServing(2, candidate)
	r.WaitFamily(t, 1, patience)
}

// After Abort there is nothing to commit, whatever the candidate still does.
func TestCommitAfterAbortIsRefused(t *testing.T) {
	t.Parallel()
	f := faultAt(t, "new.aborted", "stop")
	r := startService(t, func(s *settings) { s.Soak, s.AbortGrace = time.Minute, time.Second }, f.env)
	_, done := r.soaking()
	r.ask("POST", "/abort")
	if a := r.ask("POST", "/commit"); !a.NotReady {
		t.Errorf("commit after abort: %+v", a)
	}
	if a := <-done; !a.Aborted {
		t.Errorf("upgrade: %+v", a)
	}
}

// The path of a unix socket that the new release does not use goes with the commit, and stays if the commit fails.
func TestUnclaimedPathSurvivesAFailedCommit(t *testing.T) {
	t.Parallel()
	f := faultAt(t, "new.ready", "kill")
	r := startService(t, onPath, f.env)
	r.change(func(s *settings) { s.Network, s.Addr = "tcp", "127.0.0.1:0" })
	r.mustFail("commit", "signal: killed")
	if by := r.dial().by; by != "g1" {
		t.Errorf("%s answers on the path", by)
	}
	r.upgrade()
	testutil.Until(t, patience, "the path is removed", func() bool { return !exists(r.addr) })
}

// A script that starts the program instead of becoming it is refused, and neither of the two processes is left.
func TestWrapperWithoutExecIsRefused(t *testing.T) {
	for _, c := range []struct{ name, bad, reason string }{
		{"starts", "", "a script has to end with exec"},
		{"hangs", "hang", "did not get to upgrade.New within 1.5s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := startService(t, impatient)
			l := r.load(smallLoad)
			r.change(func(s *settings) { s.Bad = c.bad })
			r.wrapper()
			r.mustFail("start", c.reason)
			r.linkTo(testBinary(t))
			r.mustRecover(l, 1)
			r.account(l).MustBeClean(t)
		})
	}
}

// A TERM ends a process whose serve has returned and that waits for its candidate.
func TestTermAfterServeReturnedEnds(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Timeout = 3 * time.Minute })
	r.change(func(s *settings) { s.Bad = "hang" })
	r.signalMain(syscall.SIGHUP)
	r.WaitFamily(t, 2, patience)
	r.ask("POST", "/end")
	r.WaitOutput(patience, hasReturned)
	r.signalMain(syscall.SIGTERM)
	if code, err := r.Wait(patience); err != nil || code != 1 {
		t.Errorf("exit %d, %v", code, err)
	}
	r.WaitFamily(t, 0, patience)
}

// A candidate is the best that can happen to a service whose serve fails: it is committed at once.
func TestServeFailureHandsOverToTheCandidate(t *testing.T) {
	t.Parallel()
	r := startService(t, long)
	l := r.load(smallLoad)
	r.signalMain(syscall.SIGHUP)
	r.waitPhase("soak")
	candidate := r.ask("GET", "/status").Status.Candidate.PID
	r.ask("POST", "/end")
	if code, err := r.Wait(patience); err != nil || code != 1 {
		t.Errorf("exit %d, %v", code, err)
	}
	r.waitServing(2, 0)
	if r.mainPID() != candidate {
		t.Errorf("the pid file names %d, not %d", r.mainPID(), candidate)
	}
	r.mustRecover(l, 2)
	r.account(l).MustBeClean(t)
}

// A value that does not return from MarshalBinary costs an upgrade, and neither an abort nor a stop of the service.
func TestHangingMarshalDoesNotBlockAStop(t *testing.T) {
	for _, phase := range []string{"start", "commit"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			r := startService(t, func(s *settings) { s.Soak, s.Timeout, s.AbortGrace = time.Minute, 3*time.Minute, time.Second })
			var done <-chan answer
			if phase == "commit" {
				_, done = r.soaking()
			}
			r.ask("POST", "/hang")
			if phase == "start" {
				done = r.beginUpgrade()
			}
			r.ask("POST", "/commit") // refused in the other phase
			r.WaitOutput(patience, hangs)
			r.waitPhase(phase)
			r.ask("POST", "/abort")
			if a := <-done; !a.Aborted {
				t.Errorf("upgrade: %+v", a)
			}
			r.signalMain(syscall.SIGTERM)
			if code, err := r.Wait(patience); err != nil || code != 0 {
				t.Errorf("exit %d, %v", code, err)
			}
			r.WaitFamily(t, 0, patience)
		})
	}
}

// An upgrade that ends before the commit is sent loses no request that the candidate has begun, whatever the reason.
func TestCommitThatIsNotSentLosesNothing(t *testing.T) {
	for _, marshal := range []string{"hang", "fail"} {
		t.Run(marshal, func(t *testing.T) {
			t.Parallel()
			r := startService(t, func(s *settings) { staying(s); s.Timeout = 3 * time.Minute })
			_, done := r.soaking()
			p, other := r.connect("g2").begin(), r.connect("g2")
			r.ask("POST", "/"+marshal)
			r.ask("POST", "/commit")
			if marshal == "hang" {
				r.WaitOutput(patience, hangs)
				r.ask("POST", "/abort")
			}
			other.waitEnding()
			p.finish()
			if a := <-done; a.Committed || a.Phase != "commit" {
				t.Errorf("upgrade: %+v", a)
			}
			r.WaitFamily(t, 1, patience)
		})
	}
}

// A service that was told to stop stays down: a candidate that was taken back before does not start anew, not even if
// the old process is killed.
func TestAbortThenTermThenKillStaysDown(t *testing.T) {
	t.Parallel()
	r := startService(t, staying)
	_, done := r.soaking()
	begun, other := r.connect("g2").begin(), r.connect("g2")
	r.ask("POST", "/abort")
	other.waitEnding() // it is taken back
	other = r.connect("g1")
	var last []*peer
	for range 5 {
		last = append(last, r.connect("g1").begin())
	}
	r.signalMain(syscall.SIGTERM)
	other.waitEnding() // the signal was noticed
	for _, p := range last {
		p.finish() // and whatever it had woken has run
	}
	r.Kill()
	<-done
	begun.finish()
	r.WaitFamily(t, 0, patience)
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

// Upgrades that do not wait for older generations to end lose nothing that those have begun.
func TestChainOfUpgradesWhileOldOnesDrain(t *testing.T) {
	t.Parallel()
	const upgrades = 5
	r := startService(t, nil)
	l := r.load(smallLoad)
	begun := []*peer{r.connect("g1").begin()}
	for n := range upgrades {
		r.upgrade()
		begun = append(begun, r.connect(fmt.Sprint("g", n+2)).begin())
	}
	r.WaitFamily(t, upgrades+1, patience)
	for _, p := range begun {
		p.finish()
	}
	r.WaitFamily(t, 1, patience)
	r.account(l).MustBeClean(t)
}
