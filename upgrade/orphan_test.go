//go:build linux

package upgrade_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// mustBeOneService waits until only one process is left beside the supervisor, and serves. This process is not the dead
// process, the pid file names it, and the supervisor knows it.
func mustBeOneService(t *testing.T, r *testclient.Service, dead int) {
	t.Helper()
	testutil.Until(t, patience, "another process serves, alone", func() bool {
		return r.ServesWithout(dead) && len(r.Generations()) == 1 && r.Generations()[0] == r.MainPID()
	})
	r.WaitKnown()
}

// If the old process is killed at any step of an upgrade, one service is left. After the commit message, the candidate is the
// service. Before the commit message, the supervisor starts the committed build, with the next generation number. If the
// committed build does not start any more, the candidate is the service. No connection is refused.
func TestKillInAnUpgradeLeavesOneProvenService(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*plan.Settings)
		steps   []string
		restart bool // a restart by the supervisor fails
	}{
		"no judge":           {steps: []string{"old.welcomed", "old.bequeathed", "old.prepared", "old.opened", "old.commit", "old.committed", "old.handed-over"}},
		"Bake at 1 %":        {steps: []string{"bake", "old.commit", "old.committed", "old.handed-over"}, change: func(s *plan.Settings) { byWeights(0.01)(s); s.NoMove = true }},
		"Exclusive":          {steps: []string{"old.welcomed", "old.prepared", "old.released", "old.commit", "old.committed", "old.handed-over"}, change: exclusively},
		"good build crashes": {steps: []string{"old.welcomed", "old.prepared", "old.opened", "old.commit", "old.committed"}, restart: true},
		"both":               {steps: []string{"old.welcomed", "old.prepared", "old.released", "old.commit", "old.committed"}, restart: true, change: exclusively},
	} {
		for _, step := range c.steps {
			t.Run(name+" "+step, func(t *testing.T) {
				testutil.Sample(t)
				t.Parallel()
				f := testclient.FaultAt(t, step, "kill")
				r := testclient.Start(t, func(s *plan.Settings) {
					always(s)
					s.RestartsFail = c.restart
					if c.change != nil {
						c.change(s)
					}
				}, f.Env)
				o := smallLoad
				if r.Set.Lock != "" {
					o.Path = "/held" // this request fails in a process that accepts without the lock
				}
				l := r.Load(o)
				old := r.MainPID()
				done := r.BeginUpgrade()
				if strings.HasPrefix(name, "Bake") {
					r.AtStep(0)
					if step == "bake" {
						r.SignalMain(syscall.SIGKILL)
					} else {
						r.GoOn()
					}
				}
				<-done // the answer may die with the process
				mustBeOneService(t, r, old)
				proven := step == "old.committed" || step == "old.handed-over"
				st := r.Status()
				switch {
				case proven && (st.Generation != 2 || st.Uncommitted):
					t.Errorf("the candidate was committed, and generation %d serves, uncommitted %v", st.Generation, st.Uncommitted)
				case !proven && c.restart && (st.Generation != 2 || !st.Uncommitted):
					t.Errorf("the committed build does not start, and generation %d serves, uncommitted %v", st.Generation, st.Uncommitted)
				case !proven && !c.restart && (st.Generation != 3 || st.Uncommitted || st.Last == nil || st.Last.Kind != "crash"):
					t.Errorf("generation %d serves, uncommitted %v, started by %+v", st.Generation, st.Uncommitted, st.Last)
				}
				if !proven && !c.restart && strings.Contains(r.Output(), "upgrade: serving generation=2") {
					t.Error("the candidate has taken the place of the service")
				}
				if r.Set.Lock != "" {
					mustHold(t, r, r.MainPID())
				}
				a := r.Account(l)
				if a.Counts[testutil.Refused] > 0 {
					t.Errorf("%d connections were refused\n%s", a.Counts[testutil.Refused], a)
				}
				for _, o := range a.Offenders {
					if o.Status == 503 && o.PID != old {
						t.Errorf("pid %d serves without the lock", o.PID)
					}
				}
				r.Change(func(s *plan.Settings) { s.RestartsFail = false })
				_ = os.Remove(filepath.Join(r.Dir, "step"))
				done = r.BeginUpgrade()
				if r.Set.Bake != "" {
					r.AtStep(0)
					r.GoOn()
				}
				if a := <-done; !a.Committed {
					t.Errorf("upgrade: %s", a.Error)
				}
				if r.Status().Uncommitted {
					t.Error("the next generation says that it was not committed")
				}
				r.WaitFamily(t, 2, patience)
				r.MustStop(syscall.SIGTERM)
			})
		}
	}
}

// If the old process dies while a bad release has 1 % of the connections, the bad release does not become the service.
func TestBadReleaseIsNoHeir(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { always(s); byWeights(0.01)(s); s.Bad = plan.RequestsFail })
	r.Touch("bad")
	old := r.MainPID()
	done := r.BeginUpgrade()
	r.AtStep(0)
	r.SignalMain(syscall.SIGKILL)
	<-done
	mustBeOneService(t, r, old)
	l := r.Load(smallLoad)
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > 300 })
	r.Account(l).MustBeClean(t)
	if l.Seen("g2") || !l.Seen("g3") {
		t.Error("the bad release answers")
	}
	r.MustStop(syscall.SIGTERM)
}

// orphaned starts a service and an upgrade, and returns during the soak: then the caller kills the old process. The supervisor
// starts the committed build, which is suspended until the caller calls goOn.
func orphaned(t *testing.T, change func(*plan.Settings)) (r *testclient.Service, goOn func()) {
	t.Helper()
	f := testclient.FaultAt(t, "new.resumed", "stop")
	r = testclient.Start(t, func(s *plan.Settings) {
		always(s)
		s.Soak = time.Minute
		if change != nil {
			change(s)
		}
	}, f.Env)
	r.Soaking()
	return r, func() {
		t.Helper()
		testutil.Until(t, patience, "the committed build starts", r.Frozen)
		if err := syscall.Kill(r.Faulted(), syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
}

// An orphan writes no pid file, and Status shows that it is an orphan. When the committed build serves, the orphan sends it
// the idle connections and the kept values, and ends.
func TestOrphanGivesWhatItHas(t *testing.T) {
	t.Parallel()
	r, goOn := orphaned(t, nil)
	old := r.MainPID()
	candidate := r.Candidate()
	r.SignalMain(syscall.SIGKILL)
	testutil.Until(t, patience, "the orphan serves", func() bool {
		a, err := r.TryAsk(t.Context(), "GET", "/status")
		return err == nil && a.Status.State == "orphan" && a.Status.Uncommitted && a.Status.PID == candidate
	})
	if b, err := os.ReadFile(filepath.Join(r.Dir, "pid")); err == nil && strings.TrimSpace(string(b)) != "" && r.MainPID() == candidate {
		t.Errorf("the orphan is in the pid file: %q", b)
	}
	p := r.Dial()
	if p.By != "g2" {
		t.Fatalf("%s answers, want the orphan", p.By)
	}
	busy := r.Dial().Begin()
	for n := range 5 {
		if got := p.Ask("/add"); got != n+1 {
			t.Fatalf("the value is %d, want %d", got, n+1)
		}
	}
	goOn()
	testutil.Until(t, patience, "the committed build serves", func() bool { return r.ServesWithout(old) })
	busy.Finish()
	mustBeOneService(t, r, old)
	if got := p.Ask("/add"); got != 6 || p.By != "g3" {
		t.Errorf("%s says %d on the connection that was idle, want g3 and 6", p.By, got)
	}
	r.MustAdd(7, "g3")
	r.MustStop(syscall.SIGTERM)
}

// Other processes may end or hang while an orphan serves. If the supervisor and the committed build die, the orphan becomes
// the service. A stop ends all processes. If the orphan dies, the committed build is the service. If the committed build
// hangs, the supervisor gives up after two starts, and the orphan becomes the service.
func TestOrphanIsNotAlone(t *testing.T) {
	serving := func(t *testing.T, r *testclient.Service) (candidate int) {
		candidate = r.Candidate()
		r.SignalMain(syscall.SIGKILL)
		testutil.Until(t, patience, "the orphan serves", func() bool {
			a, err := r.TryAsk(t.Context(), "GET", "/status")
			return err == nil && a.Status.State == "orphan"
		})
		return candidate
	}
	for name, killed := range map[string]bool{"supervisor dies": false, "supervisor and committed build die": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, "new.resumed", "hold")
			r := testclient.Start(t, func(s *plan.Settings) { always(s); s.Soak = time.Minute }, f.Env)
			r.Soaking()
			candidate := serving(t, r)
			f.Held(r)
			started := r.Faulted()
			r.Kill()
			if killed {
				if err := syscall.Kill(started, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			} else {
				f.GoOn(t)
			}
			want, uncommitted := started, false
			if killed {
				want, uncommitted = candidate, true
			}
			testutil.Until(t, patience, "one of the two is the service, alone", func() bool {
				return r.MainPID() == want && r.ServesWithout(0) && len(r.Family()) == 1
			})
			if st := r.Status(); st.Uncommitted != uncommitted || st.Supervisor != "dead" {
				t.Errorf("%+v", st)
			}
			r.SignalMain(syscall.SIGTERM)
			r.WaitFamily(t, 0, patience)
		})
	}
	t.Run("told to stop", func(t *testing.T) {
		t.Parallel()
		r, goOn := orphaned(t, nil)
		candidate := serving(t, r)
		busy := r.Dial().Begin()
		if err := syscall.Kill(candidate, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		goOn()
		testutil.Until(t, patience, "the committed build serves", func() bool { return r.ServesWithout(candidate) && r.Status().Generation == 3 })
		busy.Finish()
		mustBeOneService(t, r, candidate)
		r.MustStop(syscall.SIGTERM)
	})
	t.Run("its checks pass late", func(t *testing.T) {
		t.Parallel()
		f := testclient.FaultAt(t, "new.resumed", "stop")
		r := testclient.Start(t, func(s *plan.Settings) { always(s); s.Bad = plan.CheckWaits }, f.Env)
		old := r.MainPID()
		r.BeginUpgrade()
		r.WaitOutput(patience, plan.SaysCheckWaits)
		r.SignalMain(syscall.SIGKILL)
		r.WaitOutput(patience, "prepared=false")
		r.Touch("release")
		testutil.Until(t, patience, "the committed build starts", r.Frozen)
		if err := syscall.Kill(r.Faulted(), syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		mustBeOneService(t, r, old)
		if strings.Contains(r.Output(), "upgrade: serving generation=2") {
			t.Error("the orphan has become the service")
		}
		r.MustStop(syscall.SIGTERM)
	})
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		r, goOn := orphaned(t, nil)
		serving(t, r)
		testutil.Until(t, patience, "the committed build starts", r.Frozen)
		r.Signal(syscall.SIGTERM)
		goOn()
		if _, err := r.Wait(patience); err != nil {
			t.Error(err)
		}
		r.WaitFamily(t, 0, patience)
	})
	t.Run("orphan dies", func(t *testing.T) {
		t.Parallel()
		r, goOn := orphaned(t, nil)
		candidate := serving(t, r)
		testutil.Until(t, patience, "the committed build starts", r.Frozen)
		_ = syscall.Kill(candidate, syscall.SIGKILL)
		goOn()
		mustBeOneService(t, r, candidate)
		r.MustStop(syscall.SIGTERM)
	})
	t.Run("committed build hangs", func(t *testing.T) {
		t.Parallel()
		r, _ := orphaned(t, func(s *plan.Settings) { s.Timeout = 3 * time.Second })
		candidate := serving(t, r)
		testutil.Until(t, patience, "the committed build starts", r.Frozen)
		r.Change(func(s *plan.Settings) { s.RestartsFail = true }) // the second start fails
		testutil.Until(t, patience, "the orphan is the service", func() bool { return r.MainPID() == candidate && r.ServesWithout(0) })
		r.WaitKnown()
		r.MustSay("the process that nobody has committed is the service")
		r.UpgradeNow()
		r.WaitFamily(t, 2, patience)
		r.MustStop(syscall.SIGTERM)
	})
}

// If the old process dies while an aborted candidate answers a request, the supervisor starts the committed build at once, and
// the candidate finishes the request.
func TestCandidateThatWasTakenBackIsNoHeir(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { always(s); s.Soak, s.NoMove = time.Minute, true })
	_, done := r.Soaking()
	busy, other := r.DialTo("g2").Begin(), r.DialTo("g2")
	go func() { _, _ = r.TryAsk(t.Context(), "POST", "/abort") }()
	other.WaitEnding() // the candidate has received the abort message
	old := r.MainPID()
	r.SignalMain(syscall.SIGKILL)
	<-done
	testutil.Until(t, patience, "the committed build serves", func() bool { return r.ServesWithout(old) }) // not after Timeout
	busy.Finish()
	mustBeOneService(t, r, old)
	r.MustStop(syscall.SIGTERM)
}
