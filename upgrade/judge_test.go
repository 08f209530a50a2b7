//go:build linux

package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// readTime reads a time from the file with the name. It returns the zero time if there is no such file.
func readTime(r *testclient.Service, name string) time.Time {
	b, _ := os.ReadFile(filepath.Join(r.Dir, name)) // the file may not exist
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, n)
}

var takenBack = regexp.MustCompile(`upgrade: taken back candidate=\d+ accepting_after=(\S+)`)

// If a release goes bad at any step, it is taken back. No connection is refused, and no idle connection ends. Only requests
// that the bad process had received are lost or answered with an error. The next release, which is good, is committed.
func TestBadReleaseIsTakenBackAtEveryStep(t *testing.T) {
	weights := []float64{0.05, 0.25, 0.5, 1}
	from := 0
	if testing.Short() {
		from = 2
	}
	for _, how := range []going{
		{name: "errors=0.2", bad: plan.RequestsFail}, {name: "panic=0.1", bad: plan.RequestsPanic}, {name: "exit", bad: plan.ExitsInRequest},
		{name: "kill", signal: syscall.SIGKILL}, {name: "stop", signal: syscall.SIGSTOP},
	} {
		for n := from; n < len(weights); n++ {
			t.Run(fmt.Sprintf("%s at %v", how.name, weights[n]), func(t *testing.T) {
				testutil.Sample(t)
				t.Parallel()
				r := testclient.Start(t, func(s *plan.Settings) {
					byWeights(weights...)(s)
					s.AbortGrace = 5 * time.Second
					if how.signal == syscall.SIGSTOP {
						s.Silence = time.Second
					}
				})
				takeBackAt(t, r, how, n)
			})
		}
	}
}

// going is how a release goes bad: by a misbehaviour, or by a signal.
type going struct {
	name   string
	bad    plan.Misbehaviour
	signal syscall.Signal
}

func takeBackAt(t *testing.T, r *testclient.Service, how going, step int) {
	r.Change(func(s *plan.Settings) { s.Bad = how.bad })
	kept, fresh := r.Load(testutil.LoadOptions{KeepAlive: 4}), r.Load(testutil.LoadOptions{New: 8})
	var idle []*testclient.Peer
	for range 40 {
		idle = append(idle, r.Dial())
	}
	done := r.BeginUpgrade()
	for i := range step {
		r.AtStep(i)
		r.GoOn()
	}
	r.AtStep(step)
	testutil.Until(t, patience, "the candidate answers", func() bool { return fresh.Seen("g2") })
	candidate := r.Candidate()
	if how.signal != 0 {
		_ = syscall.Kill(candidate, how.signal)
	} else {
		r.Touch("bad")
	}
	began := time.Now()
	if a := <-done; a.Committed || a.Phase != "bake" {
		t.Fatalf("upgrade: %+v", a)
	}
	dead := began.Add(dying)
	if at := readTime(r, "exited"); !at.IsZero() {
		dead = at.Add(dying)
	}
	if got := testclient.Sides(t, idle)["g1"]; got != len(idle) {
		t.Errorf("%d of %d idle connections are with the old process", got, len(idle))
	}
	for _, l := range []*testutil.Load{kept, fresh} {
		answered := l.Total()
		testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+100 })
		for _, o := range r.Account(l).Offenders {
			if o.Verdict == testutil.Refused || !r.LostWith(o, candidate, dead) || how.bad == plan.RequestsFail && o.Status != 500 {
				t.Errorf("lost: %v", o)
			}
		}
	}
	late := time.Duration(0) // the time from the verdict to the last new connection of the candidate
	if at := readTime(r, "verdict"); !at.IsZero() {
		for rec := range fresh.Stop().Records() {
			if rec.PID == candidate && rec.Start.After(at) {
				late = max(late, rec.Start.Sub(at))
			}
		}
	}
	if m := takenBack.FindStringSubmatch(r.Output()); m == nil {
		t.Error("the log does not say how long it took")
	} else {
		t.Logf("from detection to accepting everything: %s; the last new connection of the candidate began %v after the verdict", m[1], late)
	}
	r.GoOn() // the attempt has ended, so no judge waits at the step
	r.Change(func(s *plan.Settings) { s.Bad, s.Weights = "", []float64{0.25, 1} })
	done = r.BeginUpgrade()
	for i := range 2 {
		r.AtStep(i)
		r.GoOn()
	}
	if a := <-done; !a.Committed {
		t.Fatalf("the next upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	if got := testclient.Sides(t, idle)["g2"]; got != len(idle) {
		t.Errorf("%d of %d idle connections are with the new process", got, len(idle))
	}
}

// The messages that the candidate publishes reach the subscribers. If a subscriber returns an error, the upgrade is taken
// back. In a process that is no candidate, Publish returns ErrNotReady.
func TestCandidateReportsToTheJudge(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bake, s.Soak = plan.BakeHearsNews, 0 })
	if a := r.Ask("POST", "/upgrade"); !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	r.Change(func(s *plan.Settings) { s.Bake = plan.BakeRejectNews })
	if a := r.Ask("POST", "/upgrade"); a.Committed || a.Phase != "bake" || !strings.Contains(a.Reason, `subscriber of "news": bad news`) {
		t.Errorf("upgrade: %+v", a)
	}
	if a := r.Ask("POST", "/publish"); !a.Is(upgrade.ErrNotReady) {
		t.Errorf("publish by the main process: %+v", a)
	}
}
