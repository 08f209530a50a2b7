//go:build linux

package upgrade_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// diary returns the pids of the processes that have acquired the lock, in order.
func diary(t *testing.T, r *testclient.Service) (holders []int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.Dir, "diary"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var pid int
		var what string
		if _, err := fmt.Sscan(string(line), &pid, &what); err != nil {
			t.Fatal(err)
		}
		if what == "has" {
			holders = append(holders, pid)
		}
	}
	return holders
}

// mustHold fails the test unless the process pid has the lock now, by the diary and by the answer of a handler.
func mustHold(t *testing.T, r *testclient.Service, pid int) {
	t.Helper()
	if h := diary(t, r); h[len(h)-1] != pid {
		t.Errorf("the last to acquire was %d, want %d: %v", h[len(h)-1], pid, h)
	}
	if n, _ := r.Post("/held"); n != pid {
		t.Errorf("a handler says that %d holds the lock, want %d", n, pid)
	}
}

var exclusively = func(s *plan.Settings) { s.Lock = plan.LockServing }

// Two processes never have a resource at the same time, and no process serves without the resource. The old process releases
// it before the commit, and the new process acquires it before it accepts. Clients notice nothing.
func TestExclusiveResourcePassesWithTheCommit(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, exclusively)
	o := smallLoad
	o.Path = "/held" // this request fails in a process that accepts without the lock
	l := r.Load(o)
	for range 10 {
		r.Upgrade()
		mustHold(t, r, r.MainPID())
	}
	a := r.Account(l)
	t.Log(a)
	a.MustBeClean(t)
	if h := diary(t, r); len(h) != 11 {
		t.Errorf("%d processes had the lock: %v", len(h), h)
	}
	r.SignalMain(syscall.SIGTERM)
	r.WaitFamily(t, 0, patience)
	b, _ := os.ReadFile(filepath.Join(r.Dir, "diary"))
	if !strings.HasSuffix(string(b), "leaves\n") {
		t.Errorf("a stop does not release: %s", b)
	}
}

// If requests need the resource, a candidate does not accept before the commit. If the resource is for background work, the
// candidate accepts during the soak.
func TestCandidateDoesNotAcceptWithoutTheResource(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Lock, s.Soak = plan.LockServing, 300*time.Millisecond })
	l := r.Load(smallLoad)
	done := r.BeginUpgrade()
	r.WaitPhase("soak")
	answered := l.Total()
	testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+20 || len(done) > 0 })
	if len(done) == 0 && l.Seen("g2") {
		t.Error("the candidate has accepted before it had what it needs")
	}
	if a := <-done; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	r.Account(l).MustBeClean(t)

	back := testclient.Start(t, func(s *plan.Settings) { s.Lock, s.Soak = plan.LockBackground, time.Minute })
	l = back.Load(smallLoad)
	done = back.BeginUpgrade()
	back.WaitPhase("soak")
	testutil.Until(t, patience, "both accept", func() bool { return l.Seen("g2") })
	back.Ask("POST", "/commit")
	if a := <-done; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	back.Account(l).MustBeClean(t)
}

// If the new process cannot acquire the resource, or dies after it has acquired the resource, the old process acquires the
// resource again and serves on.
func TestExclusiveResourceComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		bad          plan.Misbehaviour
		step, reason string
	}{
		"cannot acquire":         {bad: plan.AcquireFails, reason: "the volume is not there"},
		"cannot acquire another": {bad: plan.AcquireSecondFails, reason: "the second one is not to be had"},
		"dies with it":           {step: "new.commit", reason: "killed"},
		"dies before":            {step: "new.opened", reason: "killed"},
		"refuses the state":      {bad: plan.RefuseValueAtCommit, reason: "not in this shape"},
	} {
		for _, kind := range []plan.Lock{plan.LockServing, plan.LockBackground} {
			if c.step == "new.opened" && kind == plan.LockServing {
				continue // new.opened is not reached
			}
			t.Run(name+" "+string(kind), func(t *testing.T) {
				testutil.Sample(t)
				t.Parallel()
				var env []string
				f := testclient.Fault{}
				if c.step != "" {
					f = testclient.FaultAt(t, c.step, "kill")
					env = append(env, f.Env)
				}
				r := testclient.Start(t, func(s *plan.Settings) { s.Lock, s.Bad = kind, c.bad }, env...)
				l := r.Load(smallLoad)
				a := r.Ask("POST", "/upgrade")
				if a.Committed || !strings.Contains(a.Reason, c.reason) {
					t.Fatalf("upgrade: %+v", a)
				}
				mustHold(t, r, r.PID())
				r.MustRecover(l, 1)
				mustHold(t, r, r.MainPID())
				r.MustHaveLostOnlyWith(l, f)
			})
		}
	}
}

// If the old process dies with the resource or after it has released the resource, the candidate acquires the resource and
// becomes the service.
func TestOldProcessMayDieWithTheResource(t *testing.T) {
	for _, step := range []string{"old.prepared", "old.released", "old.commit", "old.committed", "old.handed-over"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, step, "kill")
			r := testclient.Start(t, exclusively, f.Env)
			l := r.Load(smallLoad)
			if a, err := r.TryAsk(t.Context(), "POST", "/upgrade"); err == nil {
				t.Fatalf("the old process answered: %+v", a)
			}
			mustBeTakenOver(t, r, l, f)
			mustHold(t, r, r.MainPID())
		})
	}
}

// If an abort comes while the old process releases the resource, the old process acquires the resource again.
func TestAbortDuringTheReleaseGivesBack(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "old.released", "stop")
	r := testclient.Start(t, exclusively, f.Env)
	done := r.BeginUpgrade()
	testutil.Until(t, patience, "the old process has released", r.Frozen)
	aborted := make(chan struct{})
	go func() {
		defer close(aborted)
		_, _ = r.TryAsk(context.Background(), "POST", "/abort") // the abort may come too late: both results are right
	}()
	_ = syscall.Kill(r.Faulted(), syscall.SIGCONT)
	<-aborted
	<-done
	testutil.Until(t, patience, "somebody serves", func() bool {
		a, err := r.TryAsk(t.Context(), "GET", "/status")
		return err == nil && a.Status.State == "serving" && a.Status.Candidate == nil && len(r.Family()) == 1
	})
	mustHold(t, r, r.MainPID())
}

// If the old process dies after an abort, the candidate starts the service again. If the new process cannot acquire the
// resource, the aborted candidate does not acquire the resource either, because it must not serve.
func TestAbortedProcessTakesNoResource(t *testing.T) {
	for _, kind := range []plan.Lock{plan.LockServing, plan.LockBackground} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, "old.returned", "kill")
			r := testclient.Start(t, func(s *plan.Settings) { s.Lock, s.Soak = kind, time.Minute }, f.Env)
			candidate, done := r.Soaking()
			r.Change(func(s *plan.Settings) { s.Bad = plan.AcquireFails }) // for the process that the candidate starts
			_, _ = r.TryAsk(t.Context(), "POST", "/abort")                 // the old process may die before it has sent the answer
			<-done
			r.WaitFamily(t, 0, patience)
			if h := diary(t, r); slices.Contains(h, candidate) {
				t.Errorf("the aborted process %d had the lock: %v", candidate, h)
			}
			r.MustSay("starting anew")
			r.MustSay("the volume is not there")
		})
	}
}

// If the first process cannot acquire the resource, Run returns the error, because the process cannot serve.
func TestFirstProcessNeedsItsResource(t *testing.T) {
	t.Parallel()
	up := newUnsupported(t, upgrade.Options{})
	gone := errors.New("no licence left")
	up.Exclusive("licence", upgrade.Resource{Acquire: func(context.Context) error { return gone }})
	if err := up.Run(t.Context(), serveUntilDone); !errors.Is(err, gone) || !strings.Contains(err.Error(), `acquire "licence"`) {
		t.Errorf("Run: %v", err)
	}
}

// A stop does not wait for a resource that cannot be acquired. A resource that is acquired after the stop is released.
func TestStopWhileAcquiring(t *testing.T) {
	t.Parallel()
	up := newUnsupported(t, upgrade.Options{})
	asked, released := make(chan struct{}), 0
	up.Exclusive("slow", upgrade.Resource{
		Acquire: func(ctx context.Context) error { close(asked); <-ctx.Done(); return nil },
		Release: func(context.Context) error { released++; return nil },
	})
	ctx, stop := context.WithCancel(t.Context())
	go func() { <-asked; stop() }()
	if err := up.Run(ctx, serveUntilDone); err != nil || released != 1 {
		t.Errorf("Run: %v, released %d times", err, released)
	}
}
