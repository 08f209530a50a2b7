//go:build linux

package upgrade_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// The main generation is killed before the commit, and its candidate hangs. The candidate delays nothing: the supervisor starts
// the last committed build at once. It kills the candidate if the candidate does not report within the limit.
func TestHungCandidateDoesNotKeepTheServiceDown(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.prepare", "stop")
	r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor, s.Timeout = "always", 2*time.Second }, f.Env)
	l := r.Load(smallLoad)
	go func() { _, _ = r.TryAsk(t.Context(), "POST", "/upgrade") }()
	testutil.Until(t, patience, "the candidate hangs", r.Frozen)
	dead := r.MainPID()
	at := time.Now()
	r.SignalMain(syscall.SIGKILL)
	testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(dead) })
	t.Logf("back after %v, with a hung candidate and a Timeout of 2s", time.Since(at).Round(time.Millisecond))
	testutil.Until(t, patience, "the hung one is killed", func() bool {
		return strings.Contains(r.Output(), "a process that has to end does not, and is killed")
	})
	r.WaitFamily(t, 2, patience)
	a := r.Account(l)
	if a.Counts[testutil.Refused] > 0 {
		t.Errorf("%d connections were refused", a.Counts[testutil.Refused])
	}
	r.MustStop(syscall.SIGTERM)
}

// When the service stops, the supervisor waits until older generations have finished their requests.
func TestSupervisorWaitsForOlderGenerations(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	held := r.Dial().Begin()
	r.Upgrade()
	r.Signal(syscall.SIGTERM)
	testutil.Until(t, patience, "the main generation has ended", func() bool { return strings.Contains(r.Output(), "waiting for generations that drain") })
	if c, err := net.Dial("tcp", r.Addr); err == nil {
		c.Close()
		t.Error("a connection waits for nobody")
	}
	held.Finish()
	if code, err := r.Wait(patience); err != nil || code != 0 {
		t.Errorf("exit status %d, %v", code, err)
	}
	r.WaitFamily(t, 0, patience)
}

// Older generations that take too long are killed. A second signal kills all processes at once.
func TestSupervisorDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		grace  time.Duration
		signal bool
	}{
		"AbortGrace":      {grace: 300 * time.Millisecond},
		"a second signal": {grace: time.Hour, signal: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor, s.AbortGrace = "always", c.grace })
			r.Dial().Begin()
			r.Upgrade()
			r.Signal(syscall.SIGTERM)
			testutil.Until(t, patience, "the main generation has ended", func() bool { return strings.Contains(r.Output(), "waiting for generations that drain") })
			if c.signal {
				r.Signal(syscall.SIGTERM)
			}
			if code, err := r.Wait(patience); err != nil || code != 0 {
				t.Errorf("exit status %d, %v", code, err)
			}
			r.WaitFamily(t, 0, patience)
		})
	}
}

// If the supervisor is killed, the service goes on, and can be upgraded.
func TestServiceSurvivesItsSupervisor(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor, s.Watchdog = "always", 300*time.Millisecond })
	l := r.Load(smallLoad)
	if st := r.Status(); st.Supervisor != "alive" {
		t.Errorf("the supervisor is %q", st.Supervisor)
	}
	r.Kill()
	if st := r.Status(); st.Supervisor != "dead" {
		t.Errorf("the supervisor is %q, and it was killed", st.Supervisor)
	}
	for range 2 {
		r.Upgrade()
	}
	r.WaitFamily(t, 1, patience)
	r.Account(l).MustBeClean(t)
	if n := strings.Count(r.Output(), "cannot tell the service manager"); n > 3 {
		t.Errorf("the log says %d times that the supervisor is gone", n)
	}
	r.SignalMain(syscall.SIGTERM)
	r.WaitFamily(t, 0, patience)
	r.MustSay("the supervisor has ended: nobody starts the service again after a crash")
	r.MustSay("main: " + upgrade.ErrUnsupervised.Error())
}

// If the supervisor is killed while a candidate is started, the upgrade fails with the true reason. The next upgrade works
// without a supervisor.
func TestSupervisorIsKilledWhileACandidateIsStarted(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "old.forked", "hold")
	r := testclient.Start(t, always, f.Env)
	l := r.Load(smallLoad)
	done := r.BeginUpgrade()
	f.Held(r)
	r.Kill()
	testutil.Until(t, patience, "the service knows that its supervisor is dead", func() bool { return r.Status().Supervisor == "dead" })
	f.GoOn(t)
	if a := <-done; a.Committed || !strings.Contains(a.Reason, "the supervisor has ended while the new process was started: ask for the upgrade again") {
		t.Errorf("upgrade: %+v", a)
	}
	r.Upgrade()
	r.WaitFamily(t, 1, patience)
	r.Account(l).MustBeClean(t)
	r.SignalMain(syscall.SIGTERM)
	r.WaitFamily(t, 0, patience)
}

// A suspended supervisor delays nothing for long. When it runs again, it learns what has happened in the meantime.
func TestStoppedSupervisorCatchesUp(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	r.Signal(syscall.SIGSTOP)
	r.Release("two")
	for range 8 { // on some kernels, these are more messages than the socket can queue
		r.Upgrade()
	}
	r.Signal(syscall.SIGCONT)
	r.WaitFamily(t, 2, patience)
	r.WaitKnown()
	dead, _ := r.KillAll()
	testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(dead[0]) })
	r.MustRun("two")
	if st := r.Status(); st.Generation != 10 {
		t.Errorf("generation %d serves, want 10", st.Generation)
	}
	r.MustStop(syscall.SIGTERM)
}

// When a suspended supervisor runs again, it reads the waiting messages before it judges which process is late. So it does not
// end a service that has sent all of its signs of life.
func TestStoppedSupervisorEndsNoHealthyService(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Supervisor, s.Watchdog = "always", time.Second })
	serves := r.MainPID()
	r.Signal(syscall.SIGSTOP)
	since := time.Now()
	testutil.Until(t, patience, "longer than Watchdog", func() bool { return time.Since(since) > 3*time.Second })
	r.Signal(syscall.SIGCONT)
	r.Upgrade()
	r.WaitFamily(t, 2, patience)
	if strings.Contains(r.Output(), "is silent") {
		t.Errorf("pid %d was told that it is silent:\n%s", serves, r.Output())
	}
	r.MustStop(syscall.SIGTERM)
}

// A SIGHUP goes to the generation that serves, even if the supervisor has not read yet which generation that is.
func TestHangupIsForTheGenerationThatServes(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	for n := range 5 { // chance decides which event the supervisor finds first
		old := r.MainPID()
		r.Signal(syscall.SIGSTOP)
		r.Upgrade()
		testutil.Until(t, patience, "the old process has ended", func() bool { return testclient.Gone(old) })
		r.Signal(syscall.SIGHUP)
		r.Signal(syscall.SIGCONT)
		r.WaitServing(3+2*n, old)
	}
	r.MustStop(syscall.SIGTERM)
}

// A SIGHUP is not lost if it comes before the supervisor has noticed that no process serves.
func TestHangupDuringACrashIsRemembered(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	for n := range 5 { // chance decides which event the supervisor finds first
		r.Signal(syscall.SIGSTOP)
		dead, _ := r.KillAll()
		testutil.Until(t, patience, "the process has ended", func() bool { return testclient.Gone(dead[0]) })
		r.Signal(syscall.SIGHUP)
		r.Signal(syscall.SIGCONT)
		r.WaitServing(3+2*n, dead[0])
		r.WaitKnown()
	}
	r.MustStop(syscall.SIGTERM)
}

// A SIGHUP is not lost in a crash either: the process has received the signal, and ends before the upgrade begins.
func TestHangupIsNotLostWithTheProcess(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	pid := r.MainPID()
	r.SignalMain(syscall.SIGSTOP)
	testutil.Until(t, patience, "the process is stopped", func() bool { return testclient.Stopped(pid) })
	r.Signal(syscall.SIGHUP)
	testutil.Until(t, patience, "the process has the signal", func() bool { return testclient.Pending(pid, syscall.SIGHUP) })
	r.SignalMain(syscall.SIGKILL)
	r.WaitServing(3, pid)
	r.MustStop(syscall.SIGTERM)
}

// If a SIGHUP has caused an upgrade, it is not sent again, even if all processes end with the upgrade.
func TestHangupThatWasFollowedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { always(s); long(s) })
	r.Signal(syscall.SIGHUP)
	const started = "upgrade: started a new process"
	testutil.Until(t, patience, "the upgrade has begun", func() bool { return strings.Contains(r.Output(), started) })
	dead, _ := r.KillAll()
	testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(dead[0]) && !slices.Contains(dead, r.MainPID()) })
	r.WaitKnown()
	r.MustStop(syscall.SIGTERM)
	if n := strings.Count(r.Output(), started); n != 1 {
		t.Errorf("%d upgrades have begun after one SIGHUP", n)
	}
}

// An orphaned process of the service is reaped when it ends.
func TestSupervisorReapsOrphans(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	pid := r.Ask("POST", "/orphan").Error
	testutil.Until(t, patience, "the orphan is reaped", func() bool {
		_, err := os.Stat("/proc/" + pid)
		return pid != "" && os.IsNotExist(err)
	})
	r.MustStop(syscall.SIGTERM)
}

// If the first process ends before it has served, it is not started again: the supervisor ends with its status.
func TestFailedStartEndsTheSupervisor(t *testing.T) {
	t.Parallel()
	r := testclient.New(t, func(s *plan.Settings) { s.Supervisor, s.Addr = "always", "127.0.0.1:99999" })
	r.Proc = testutil.Start(t, "service", testutil.Cfg{Env: []string{r.Env()}})
	if code, err := r.Wait(patience); err != nil || code != 1 {
		t.Errorf("exit status %d, %v", code, err)
	}
	if n := strings.Count(r.Output(), "main: upgrade"); n != 1 {
		t.Errorf("it was started %d times:\n%s", n, r.Output())
	}
	r.WaitFamily(t, 0, patience)
}

// A program with tableflip only becomes the service for the supervisor, although it cannot send messages to the supervisor. It
// cannot announce a successor of its own. So this library does not take over from it: an attempt fails with the reason, and the
// program serves on. After its end the supervisor starts the service.
func TestSupervisorFollowsPlainTableflip(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { anyFile(s); s.Supervisor, s.Timeout = "always", 3*time.Second })
	l := r.Load(smallLoad)
	r.Flip(true)
	r.Upgrade()
	testutil.Until(t, patience, "tableflip answers", func() bool { return l.Seen("plain") })
	r.WaitFamily(t, 2, patience)
	plain := r.MainPID()
	since := time.Now()
	testutil.Until(t, patience, "longer than Timeout", func() bool { return time.Since(since) > 3500*time.Millisecond })
	if got := r.Generations(); len(got) != 1 || got[0] != plain {
		t.Errorf("%v run, and not only %d", got, plain)
	}
	r.Account(l).MustBeClean(t)
	r.Flip(false)
	r.Signal(syscall.SIGHUP)
	const why = "knows tableflip only, and cannot tell the supervisor of this one: stop the service and start it"
	testutil.Until(t, patience, "it says why", func() bool { return strings.Contains(r.Output(), why) })
	r.WaitFamily(t, 2, patience)
	if got := r.Generations(); len(got) != 1 || got[0] != plain {
		t.Errorf("%v run, and not only %d", got, plain)
	}
	r.KillAll()
	testutil.Until(t, patience, "the library serves again", func() bool { return r.ServesWithout(plain) })
	r.MustStop(syscall.SIGTERM)
}

// If serve of the old process returns during an upgrade to a program with tableflip only, that program becomes the service. The
// supervisor knows this, although such a program cannot send it a message.
func TestServeFailureHandsOverToPlainTableflip(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) {
		anyFile(s)
		s.Supervisor, s.Soak, s.Timeout = "always", time.Minute, 3*time.Second
	})
	l := r.Load(smallLoad)
	old := r.MainPID()
	r.Flip(true)
	admin, err := net.Dial("unix", filepath.Join(r.Dir, "admin.sock")) // dialed now: tableflip removes the path later
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close() })
	r.SignalMain(syscall.SIGHUP)
	testutil.Until(t, patience, "tableflip answers", func() bool { return l.Seen("plain") })
	if _, err := admin.Write([]byte("POST /end HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	admin.Close()
	r.WaitFamily(t, 2, patience)
	since := time.Now()
	testutil.Until(t, patience, "longer than Timeout", func() bool { return time.Since(since) > 3500*time.Millisecond })
	if got := r.Generations(); len(got) != 1 || got[0] == old || strings.Contains(r.Output(), "has ended without being told to") {
		t.Errorf("%v run", got)
	}
	r.Account(l).MustBeClean(t)
	r.Signal(syscall.SIGTERM) // this program does not handle SIGTERM, so the signal kills it
	if _, err := r.Wait(patience); err != nil {
		t.Error(err)
	}
	r.WaitFamily(t, 0, patience)
}

// A SIGHUP that comes while no process serves goes to the process that serves next.
func TestHangupAfterACrashIsRemembered(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.resumed", "stop")
	r := testclient.Start(t, always, f.Env)
	r.KillAll()
	testutil.Until(t, patience, "the next one is about to start", r.Frozen)
	r.Signal(syscall.SIGHUP)
	if err := syscall.Kill(r.Faulted(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, patience, "generation 3 serves", func() bool {
		a, err := r.TryAsk(t.Context(), "GET", "/status")
		return err == nil && a.Status.State == "serving" && a.Status.Generation == 3
	})
	r.WaitFamily(t, 2, patience)
	r.MustStop(syscall.SIGTERM)
}
