//go:build linux

package upgrade_test

import (
	"encoding/json"
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

// A service that is started as root and changes to another user. Its supervisor stays root, and its candidates run as the
// other user from their start.

// dropping starts a service that drops root's rights, in a directory of the user that it changes to.
func dropping(t *testing.T, change func(*plan.Settings), env ...string) *testclient.Service {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can drop root's rights")
	}
	settings := func(s *plan.Settings) { s.Drop = plan.DropListening; change(s) }
	return testclient.StartBy(t, settings, func(r *testclient.Service) *testutil.Proc {
		r.GiveTo(plan.Nobody)
		return testutil.Start(t, "service", testutil.Cfg{Dir: r.Dir, Env: append(env, r.Env())})
	})
}

// ownerOf returns the uid of the owner of a file.
func ownerOf(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

// users returns the users and groups of a process, from /proc.
func users(t *testing.T, pid int) (all string) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if name, ids, _ := strings.Cut(line, ":"); slices.Contains([]string{"Uid", "Gid", "Groups"}, name) {
			all += strings.Join(strings.Fields(ids), " ") + ";"
		}
	}
	return all
}

// onlyNobody is the result of users for a process that runs as Nobody, and that is in no other group than Nobody's.
const onlyNobody = "65534 65534 65534 65534;65534 65534 65534 65534;;"

// mustBeDropped fails the test unless the service is one process of the given generation. This process must run as Nobody, and
// must own its files. The supervisor, if there is one, must run as root.
func mustBeDropped(t *testing.T, r *testclient.Service, generation int) {
	t.Helper()
	processes := 1
	if r.Set.Supervisor != "" {
		processes++
		if got := users(t, r.PID()); !strings.HasPrefix(got, "0 0 0 0;0 0 0 0;") {
			t.Errorf("the supervisor has users and groups %q", got)
		}
	}
	mustBeOnly(t, r, processes, generation)
	if got := users(t, r.MainPID()); got != onlyNobody {
		t.Errorf("the service has users and groups %q", got)
	}
	testutil.Until(t, patience, "nothing is staged", func() bool { return len(stagedFiles(t, r)) == 0 })
	for _, path := range []string{r.Set.PIDFile, lastFile(r)} {
		if exists(path) && ownerOf(t, path) != plan.Nobody {
			t.Errorf("%s belongs to uid %d", path, ownerOf(t, path))
		}
	}
}

// recorded returns the outcome beside the pid file.
func recorded(t *testing.T, r *testclient.Service) (out upgrade.Outcome) {
	t.Helper()
	b, err := os.ReadFile(lastFile(r))
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// story is a course of events for a service that drops root's rights. play returns the generation that serves at the end.
type story struct {
	change       func(*plan.Settings)
	step, action string // where and how a process fails; empty: no process fails
	supervised   bool   // the story needs a supervisor
	play         func(s *scene) (generation int)
}

// scene is a service of a story.
type scene struct {
	*testclient.Service
	t     *testing.T
	load  *testutil.Load
	fault testclient.Fault
	dead  []int // the killed processes: the requests that they had received are lost
	at    []time.Time
}

func (s *scene) kill(pid int) {
	s.t.Helper()
	s.dead, s.at = append(s.dead, pid), append(s.at, time.Now())
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// awaitAnswers waits until the candidate, which is generation 2, has answered.
func (s *scene) awaitAnswers() {
	s.t.Helper()
	testutil.Until(s.t, patience, "the candidate answers", func() bool { return s.load.Seen("g2") })
}

// mustHaveFailed fails the test unless the answer a and the recorded outcome report a failed upgrade with the given phase and
// reason.
func (s *scene) mustHaveFailed(a plan.Answer, phase, reason string) {
	s.t.Helper()
	if a.Committed || a.Phase != phase || !strings.Contains(a.Reason, reason) {
		s.t.Errorf("committed %v, phase %q, reason %q: want phase %q, reason with %q", a.Committed, a.Phase, a.Reason, phase, reason)
	}
	if out := recorded(s.t, s.Service); out.Committed || string(out.Phase) != a.Phase || out.Reason != a.Reason || out.PID != a.PID {
		s.t.Errorf("recorded: %+v, and the answer was %+v", out, a)
	}
}

var stories = map[string]story{
	"upgrade": {play: func(s *scene) int {
		s.Upgrade()
		request(s.t, s.Service).mustBeCommitted(s.t, 3) // root sends the request
		return 3
	}},
	"abort in bake": {change: byWeights(0.5), play: func(s *scene) int {
		done := s.BeginUpgrade()
		s.AtStep(0)
		s.awaitAnswers()
		s.Ask("POST", "/abort")
		s.mustHaveFailed(<-done, "bake", "by hand")
		return 1
	}},
	"abort in soak": {change: long, play: func(s *scene) int {
		_, done := s.Soaking()
		s.awaitAnswers()
		s.Ask("POST", "/abort")
		s.mustHaveFailed(<-done, "soak", "by hand")
		return 1
	}},
	"killed candidate": {change: long, play: func(s *scene) int {
		candidate, done := s.Soaking()
		s.awaitAnswers()
		s.kill(candidate)
		s.mustHaveFailed(<-done, "soak", "signal: killed")
		return 1
	}},
	"crashing candidate": {change: long, step: "new.opened", action: "panic", play: func(s *scene) int {
		s.mustHaveFailed(<-s.BeginUpgrade(), "soak", "panic: fault new.opened")
		s.dead, s.at = []int{s.Faulted()}, []time.Time{s.fault.Time()}
		return 1
	}},
	"hung candidate": {step: "new.prepare", action: "stop",
		change: func(s *plan.Settings) { s.Timeout, s.AbortGrace = 3*time.Second, 100*time.Millisecond },
		play: func(s *scene) int {
			s.mustHaveFailed(<-s.BeginUpgrade(), "check", "it was not prepared within 3s")
			if exists(fmt.Sprintf("/proc/%d", s.Faulted())) {
				s.t.Error("the candidate is there yet")
			}
			s.MustSay("killed the candidate")
			return 1
		}},
	"release of root": {play: func(s *scene) int {
		s.Release("secret")
		if err := os.Chmod(filepath.Join(s.Dir, "exe"), 0o700); err != nil {
			s.t.Fatal(err)
		}
		s.mustHaveFailed(<-s.BeginUpgrade(), "start", "not executable (mode -rwx------): permission denied")
		s.Release("good")
		return 1
	}},
	"rollback": {play: func(s *scene) int {
		s.Release("two")
		s.Upgrade()
		s.MustRun("two")
		s.Rollback()
		s.MustRun("original")
		return 3
	}},
	"rehearsal": {play: func(s *scene) int {
		if a := s.Ask("POST", "/rehearse"); a.Error != "" {
			s.t.Errorf("%+v", a)
		}
		if out := recorded(s.t, s.Service); out.Kind != "rehearsal" || out.Committed || out.Reason != "" {
			s.t.Errorf("recorded: %+v", out)
		}
		return 1
	}},
	"crash": {supervised: true, play: func(s *scene) int {
		s.Release("two")
		for n, runs := range []string{"original", "two"} { // started by root, then started by Nobody
			s.kill(s.MainPID())
			mustBeBack(s.t, s.Service, s.load, s.dead)
			if st := s.Status(); st.Last == nil || st.Last.Kind != "crash" || st.Last.FromPID != s.dead[n] {
				s.t.Errorf("%+v, last %+v", st, st.Last)
			}
			s.MustRun(runs)
			mustBeDropped(s.t, s.Service, 2+2*n)
			s.Upgrade()
			s.MustRun("two")
			mustBeDropped(s.t, s.Service, 3+2*n)
			s.WaitKnown()
			answered := s.load.Total()
			testutil.Until(s.t, patience, "answers by the new process", func() bool { return s.load.Total() > answered+200 })
		}
		return 5
	}},
}

// A service may drop root's rights between Listen and Run, or before New. In every story its files can be replaced, its
// candidates can be killed, and nothing is left at its end.
func TestDroppedServiceIsOneService(t *testing.T) {
	for name, c := range stories {
		for _, supervisor := range []string{"", "always"} {
			for _, drop := range []plan.Drop{plan.DropListening, plan.DropFirst} {
				if c.supervised && supervisor == "" || drop == plan.DropFirst && name != "upgrade" && name != "crash" {
					continue
				}
				t.Run(strings.TrimSpace(fmt.Sprintf("%s %s %s", name, supervisor, drop)), func(t *testing.T) {
					testutil.Sample(t)
					t.Parallel()
					var f testclient.Fault
					if c.step != "" {
						f = testclient.FaultAt(t, c.step, c.action)
					}
					r := dropping(t, func(s *plan.Settings) {
						s.Supervisor, s.Drop = supervisor, drop
						if c.change != nil {
							c.change(s)
						}
					}, f.Env)
					tell(t, r, c, f)
				})
			}
		}
	}
}

// tell plays a story, and ends the service. If the first generation still serves after the story, tell makes a good upgrade
// before the end.
func tell(t *testing.T, r *testclient.Service, c story, f testclient.Fault) {
	t.Helper()
	mustBeDropped(t, r, 1)
	s := &scene{Service: r, t: t, load: r.Load(calmLoad), fault: f}
	generation := c.play(s)
	mustBeDropped(t, r, generation)
	if generation == 1 {
		r.Change(func(s *plan.Settings) { s.Bake = "" })
		if r.Set.Soak > time.Second {
			r.UpgradeNow()
		} else {
			r.Upgrade()
		}
		mustBeDropped(t, r, 2)
		if out := recorded(t, r); !out.Committed || out.PID != r.MainPID() {
			t.Errorf("recorded: %+v", out)
		}
	}
	r.MustHaveLostOnlyThen(r.Account(s.load), s.at, s.dead)
	mustEnd(t, r)
}

// mustEnd ends the service by a SIGTERM, to the supervisor if there is one.
func mustEnd(t *testing.T, r *testclient.Service) {
	t.Helper()
	if r.Set.Supervisor != "" {
		r.MustStop(syscall.SIGTERM)
	} else {
		r.SignalMain(syscall.SIGTERM)
	}
	mustLeaveNothing(t, r)
}

// A stop in the middle of an upgrade ends both processes, even a candidate that hangs: the old process, which runs as Nobody,
// can kill the candidate.
func TestDroppedServiceStopsInTheMiddleOfAnUpgrade(t *testing.T) {
	for _, supervisor := range []string{"", "always"} {
		for _, hangs := range []bool{false, true} {
			t.Run(strings.TrimSpace(fmt.Sprintf("%s hangs %v", supervisor, hangs)), func(t *testing.T) {
				t.Parallel()
				r := dropping(t, func(s *plan.Settings) {
					s.Supervisor, s.Soak, s.AbortGrace = supervisor, time.Minute, 5*time.Second
					if hangs {
						s.AbortGrace = 100 * time.Millisecond
					}
				})
				candidate, done := r.Soaking()
				if got := users(t, candidate); got != onlyNobody {
					t.Errorf("the candidate has users and groups %q", got)
				}
				if hangs {
					if err := syscall.Kill(candidate, syscall.SIGSTOP); err != nil {
						t.Fatal(err)
					}
				}
				mustEnd(t, r)
				if a := <-done; a.Committed {
					t.Errorf("%+v", a)
				}
			})
		}
	}
}
