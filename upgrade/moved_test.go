//go:build linux

package upgrade_test

import (
	"fmt"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Idle keep-alive connections pass to the new process with the commit: no client sees a close, and the next request on
// the same connection is answered by the new process, through any number of upgrades.
func TestIdleConnectionsFollowTheCommit(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	var conns []*testclient.Peer
	for range 200 {
		conns = append(conns, r.Dial())
	}
	for generation := 2; generation <= 4; generation++ {
		r.Upgrade()
		r.WaitFamily(t, 1, patience)
		want := fmt.Sprint("g", generation)
		for i, p := range conns {
			if !p.Open() {
				t.Fatalf("connection %d was closed by upgrade %d", i, generation-1)
			}
			if p.Ask("/work"); p.By != want {
				t.Fatalf("%s answers, want %s", p.By, want)
			}
		}
	}
}

// The time limits of requests do not end a moved connection that waits for its next request, although the connection is new in
// this process.
func TestShortTimeoutsDoNotEndMovedConnections(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) {
		s.ReadTimeout, s.HeaderTimeout, s.IdleTimeout = time.Second, time.Second, time.Minute
	})
	var conns []*testclient.Peer
	for range 20 {
		conns = append(conns, r.Dial())
	}
	for _, want := range []string{"g2", "g3"} {
		r.Upgrade()
		r.WaitFamily(t, 1, patience)
		<-time.After(2500 * time.Millisecond) // longer than the time limits of requests
		if got := testclient.Sides(t, conns)[want]; got != len(conns) {
			t.Errorf("%d of %d connections are with %s", got, len(conns), want)
		}
	}
}

// Idle connections follow the commit under load, too: a client with keep-alive never has to open another connection.
func TestLoadKeepsItsConnections(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	l := r.Load(testutil.LoadOptions{KeepAlive: 16, SlowEvery: 50})
	for range 10 {
		r.Upgrade()
	}
	testutil.Until(t, patience, "the last generation answers", func() bool { return l.Seen("g11") })
	report := l.Stop()
	t.Logf("%d requests of 16 clients over 10 upgrades: %d connections opened", report.Total, report.Dials)
	if len(report.Failed) > 0 {
		t.Errorf("lost: %v", report.Failed[0])
	}
}

// The candidate's share of the idle connections follows the weight, up and down. An abort brings all of them back, and a
// commit moves all of them to the candidate. No connection is closed.
func TestIdleConnectionsFollowTheWeight(t *testing.T) {
	for _, end := range []string{"commit", "abort"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			weights := []float64{0.05, 0.25, 0.5, 1, 0.5, 0.1, 0.75}
			r := testclient.Start(t, byWeights(weights...))
			var conns []*testclient.Peer
			for range 200 {
				conns = append(conns, r.Dial())
			}
			done := r.BeginUpgrade()
			for n, w := range weights {
				r.AtStep(n)
				want := int(math.Round(w * 200))
				testutil.Until(t, patience, fmt.Sprintf("%d of the connections are with the candidate", want), func() bool {
					got := testclient.Sides(t, conns)["g2"]
					return got >= want-1 && got <= want+1
				})
				if n < len(weights)-1 || end == "commit" {
					r.GoOn()
				}
			}
			want := "g2"
			if end == "abort" {
				r.Ask("POST", "/abort")
				want = "g1"
			}
			if a := <-done; a.Committed != (end == "commit") {
				t.Fatalf("upgrade: %+v", a)
			}
			r.WaitFamily(t, 1, patience)
			if got := testclient.Sides(t, conns)[want]; got != 200 {
				t.Errorf("%d of 200 connections are with %s", got, want)
			}
		})
	}
}

// The death of a candidate closes none of the idle connections that it was given.
func TestIdleConnectionsOutliveTheCandidate(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTERM, syscall.SIGQUIT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { byWeights(0.5)(s); s.Silence = time.Second })
			var conns []*testclient.Peer
			for range 200 {
				conns = append(conns, r.Dial())
			}
			done := r.BeginUpgrade()
			r.AtStep(0)
			testutil.Until(t, patience, "half of them are with the candidate", func() bool { return testclient.Sides(t, conns)["g2"] == 100 })
			_ = syscall.Kill(r.Candidate(), signal)
			if a := <-done; a.Committed {
				t.Fatalf("upgrade: %+v", a)
			}
			if got := testclient.Sides(t, conns)["g1"]; got != 200 {
				t.Errorf("%d of 200 connections are with the old process", got)
			}
		})
	}
}

// A process passes on a connection that it has received a moment ago, while its own predecessor still drains.
func TestConnectionsPassThroughManyHands(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, byWeights(0.5, 1))
	held := r.Dial().Begin() // keeps the first generation
	var conns []*testclient.Peer
	for range 50 {
		conns = append(conns, r.Dial())
	}
	for range 5 {
		done := r.BeginUpgrade()
		for n := range 2 {
			r.AtStep(n)
			testclient.Sides(t, conns)
			r.GoOn()
		}
		if a := <-done; !a.Committed {
			t.Fatalf("upgrade: %+v", a)
		}
		testutil.Until(t, patience, "they are all with the new one", func() bool { return len(testclient.Sides(t, conns)) == 1 })
	}
	held.Finish()
}
