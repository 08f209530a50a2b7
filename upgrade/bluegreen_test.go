//go:build linux

package upgrade_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// standby makes Bake a BlueGreen.
func standby(d time.Duration) func(*plan.Settings) {
	return func(s *plan.Settings) { s.Bake, s.Standby, s.Soak = plan.BakeBlueGreen, d, 0 }
}

// switched begins an upgrade by BlueGreen, and returns when the new process has all traffic, idle connections too.
func switched(t *testing.T, r *testclient.Service, idle []*testclient.Peer) (done <-chan plan.Answer) {
	t.Helper()
	done = r.BeginUpgrade()
	testutil.Until(t, patience, "the candidate has all idle connections", func() bool {
		return testclient.Sides(t, idle)["g2"] == len(idle)
	})
	for range 20 { // at weight 1 only the candidate accepts
		if p := r.Dial(); p.By != "g2" {
			t.Errorf("%s accepts", p.By)
		}
	}
	return done
}

func mustBeWith(t *testing.T, by string, conns []*testclient.Peer) {
	t.Helper()
	if got := testclient.Sides(t, conns)[by]; got != len(conns) {
		t.Errorf("%d of %d idle connections are with %s", got, len(conns), by)
	}
}

// If the new process answers with errors in the standby, an operator brings everything back by one command: no request is lost,
// no connection is refused or closed, and the idle connections return.
func TestBlueGreenGoesBackByOneCommand(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { standby(time.Hour)(s); s.Bad = plan.RequestsFail })
	l := r.Load(smallLoad)
	idle := dialMany(r, 40)
	done := switched(t, r, idle)
	r.Touch("bad")
	answered := l.Total()
	testutil.Until(t, patience, "requests fail", func() bool { return l.Total() > answered+100 })
	r.Ask("POST", "/abort")
	if a := <-done; a.Committed || a.Phase != "bake" {
		t.Fatalf("upgrade: %+v", a)
	}
	mustBeWith(t, "g1", idle)
	mustBeWith(t, "g1", dialMany(r, 20))
	answered = l.Total()
	testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+100 })
	acc, errors := r.Account(l), 0
	for _, o := range acc.Offenders {
		if o.Status != 500 {
			t.Errorf("lost: %v", o)
		}
		errors++
	}
	if errors == 0 || acc.Counts[testutil.Refused] > 0 {
		t.Errorf("%d errors of the candidate\n%s", errors, acc)
	}
}

// If the new process is killed in the standby, the old process serves everything at once: no connection is refused, idle
// connections go on, and only requests that the dead process had read are lost.
func TestBlueGreenOutlivesTheNewProcess(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, standby(time.Hour))
	l := r.Load(smallLoad)
	idle := dialMany(r, 40)
	done := switched(t, r, idle)
	candidate := r.Candidate()
	_ = syscall.Kill(candidate, syscall.SIGKILL)
	died := time.Now()
	if a := <-done; a.Committed || a.Phase != "bake" {
		t.Fatalf("upgrade: %+v", a)
	}
	mustBeWith(t, "g1", idle)
	mustBeWith(t, "g1", dialMany(r, 20))
	answered := l.Total()
	testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+100 })
	for _, o := range r.Account(l).Offenders {
		if o.Verdict == testutil.Refused || !r.LostWith(o, candidate, died.Add(dying)) {
			t.Errorf("lost: %v", o)
		}
	}
}

// A commit ends the standby early. Without a commit the standby ends by itself, and a negative Standby is none. The new process
// is committed then, and nothing is lost.
func TestBlueGreenIsCommitted(t *testing.T) {
	for _, d := range []time.Duration{0, 500 * time.Millisecond, -1} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, standby(d))
			l := r.Load(smallLoad)
			idle := dialMany(r, 40)
			var done <-chan plan.Answer
			if d == 0 { // the default is longer than any test
				done = switched(t, r, idle)
				r.Ask("POST", "/commit")
			} else {
				done = r.BeginUpgrade()
			}
			if a := <-done; !a.Committed {
				t.Fatalf("upgrade: %+v", a)
			}
			r.WaitFamily(t, 1, patience)
			mustBeWith(t, "g2", idle)
			r.Account(l).MustBeClean(t)
		})
	}
}
