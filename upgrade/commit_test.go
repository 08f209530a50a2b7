//go:build linux

package upgrade_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// An old process that was suspended for longer than its time limit reads the answer of the candidate before it takes the
// upgrade back.
func TestFrozenOldProcessFindsTheAnswer(t *testing.T) {
	for n, frozen := range []string{"at the commit", "at the commit", "later", "later", "later"} {
		t.Run(fmt.Sprint(frozen, n), func(t *testing.T) { // repeated: answer and limit are found in any order
			t.Parallel()
			f := testclient.FaultAt(t, "new.commit", "stop")
			r := testclient.Start(t, func(s *plan.Settings) { s.Timeout = 4 * time.Second }, f.Env)
			old, done := r.MainPID(), r.BeginUpgrade()
			testutil.Until(t, patience, "the commit", r.Frozen)
			if frozen == "later" {
				r.DialTo("g1") // the old process accepts again: the last limit runs
			}
			_ = syscall.Kill(old, syscall.SIGSTOP)
			testutil.Until(t, patience, "the old process is frozen", func() bool { return testclient.Stopped(old) })
			testutil.Until(t, patience, "the new process serves", func() bool {
				_ = syscall.Kill(r.Faulted(), syscall.SIGCONT)
				return r.MainPID() == r.Faulted()
			})
			r.Dial().Ask("/slow?d=4500ms") // when this request is answered, the limit is over
			_ = syscall.Kill(old, syscall.SIGCONT)
			if a := <-done; !a.Committed || r.MainPID() != r.Faulted() {
				t.Errorf("upgrade: %+v", a)
			}
		})
	}
}

// A stop during the commit gives the new process time for the work of the program after Run, as every stop does.
func TestStopDuringTheCommitLeavesTimeAfterRun(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.commit", "stop")
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.CleansUp }, f.Env)
	old := r.MainPID()
	r.BeginUpgrade()
	testutil.Until(t, patience, "the commit", r.Frozen)
	_ = syscall.Kill(old, syscall.SIGTERM)
	testutil.Until(t, patience, "the new process is told", func() bool { return testclient.Pending(r.Faulted(), syscall.SIGTERM) })
	_ = syscall.Kill(old, syscall.SIGSTOP) // the old process is slow to read the message serving
	made := func(name string, pid int) bool { return exists(filepath.Join(r.Dir, name+strconv.Itoa(pid))) }
	_ = syscall.Kill(r.Faulted(), syscall.SIGCONT)
	testutil.Until(t, patience, "Run of the new process returns", func() bool { return made("cleaning", r.Faulted()) })
	_ = syscall.Kill(old, syscall.SIGCONT)
	r.WaitFamily(t, 0, patience)
	if !made("cleaned", old) || !made("cleaned", r.Faulted()) {
		t.Errorf("the old process came to its end: %v, and the new one: %v", made("cleaned", old), made("cleaned", r.Faulted()))
	}
}

// If serve of the old process fails during an upgrade, the candidate is committed at once.
func TestServeFailureHandsOverToTheCandidate(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, long)
	l := r.Load(smallLoad)
	r.SignalMain(syscall.SIGHUP)
	r.WaitPhase("soak")
	candidate := r.Candidate()
	r.Ask("POST", "/end")
	if code, err := r.Wait(patience); err != nil || code != 1 {
		t.Errorf("exit %d, %v", code, err)
	}
	r.WaitServing(2, 0)
	if r.MainPID() != candidate {
		t.Errorf("the pid file names %d, not %d", r.MainPID(), candidate)
	}
	r.MustRecover(l, 2)
	r.Account(l).MustBeClean(t)
}

// If MarshalBinary of a value does not return, the upgrade fails, but an abort and a stop of the service still work.
func TestHangingMarshalDoesNotBlockAStop(t *testing.T) {
	for _, phase := range []string{"start", "commit"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Soak, s.Timeout, s.AbortGrace = time.Minute, 3*time.Minute, time.Second })
			var done <-chan plan.Answer
			if phase == "commit" {
				_, done = r.Soaking()
			}
			r.Ask("POST", "/hang")
			if phase == "start" {
				done = r.BeginUpgrade()
			}
			r.Ask("POST", "/commit") // refused in phase start
			r.WaitOutput(patience, plan.SaysMarshalHangs)
			r.WaitPhase(phase)
			r.Ask("POST", "/abort")
			if a := <-done; !a.Is(upgrade.ErrAborted) {
				t.Errorf("upgrade: %+v", a)
			}
			r.SignalMain(syscall.SIGTERM)
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
			r := testclient.Start(t, func(s *plan.Settings) { staying(s); s.Timeout = 3 * time.Minute })
			_, done := r.Soaking()
			p, other := r.DialTo("g2").Begin(), r.DialTo("g2")
			r.Ask("POST", "/"+marshal)
			r.Ask("POST", "/commit")
			if marshal == "hang" {
				r.WaitOutput(patience, plan.SaysMarshalHangs)
				r.Ask("POST", "/abort")
			}
			other.WaitEnding()
			p.Finish()
			if a := <-done; a.Committed || a.Phase != "commit" {
				t.Errorf("upgrade: %+v", a)
			}
			r.WaitFamily(t, 1, patience)
		})
	}
}

// A file system that hangs at the commit delays neither the requests nor the signals of the new process.
func TestFilesThatHangAtTheCommitHoldNothing(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.write", "hold")
	r := testclient.Start(t, nil, f.Env)
	old, done := r.MainPID(), r.BeginUpgrade()
	f.Held(r)
	r.DialTo("g2") // the new process accepts, although the old process does not know yet that the new process serves
	for _, pid := range []int{r.Faulted(), old} {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	testutil.Until(t, patience, "both processes have ended", func() bool { return testclient.Gone(r.Faulted()) && testclient.Gone(old) })
	<-done
}
