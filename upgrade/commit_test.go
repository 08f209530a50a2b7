//go:build linux

package upgrade_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// An old process that was frozen for longer than it waits looks for the answer before it believes that there is none.
func TestFrozenOldProcessFindsTheAnswer(t *testing.T) {
	for n, frozen := range []string{"at the commit", "at the commit", "later", "later", "later"} {
		t.Run(fmt.Sprint(frozen, n), func(t *testing.T) { // more than once: it finds the answer and the end of the time
			t.Parallel()
			f := faultAt(t, "new.commit", "stop")
			r := startService(t, func(s *settings) { s.Timeout = 4 * time.Second }, f.env)
			old, done := r.mainPID(), r.beginUpgrade()
			testutil.Until(t, patience, "the commit", r.frozen)
			if frozen == "later" {
				r.connect("g1") // it accepts again: the last limit runs
			}
			_ = syscall.Kill(old, syscall.SIGSTOP)
			testutil.Until(t, patience, "the old process is frozen", func() bool { return stopped(old) })
			testutil.Until(t, patience, "the new process serves", func() bool {
				_ = syscall.Kill(r.faulted(), syscall.SIGCONT)
				return r.mainPID() == r.faulted()
			})
			r.dial().ask("/slow?d=4500ms") // when this is answered the limit is over
			_ = syscall.Kill(old, syscall.SIGCONT)
			if a := <-done; !a.Committed || r.mainPID() != r.faulted() {
				t.Errorf("upgrade: %+v", a)
			}
		})
	}
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
