//go:build linux

package upgrade_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// mustBeAssigned waits until both processes say that chance has decided about the connections in the present turn, with the
// probability weight. The candidate must have its share, to within a connection for each other client of the service.
func mustBeAssigned(t *testing.T, conns []*testclient.Peer, weight float64) {
	t.Helper()
	candidate := 0
	for _, p := range conns {
		var a plan.Assignment
		testutil.Until(t, patience, "the connection is decided", func() bool { a = p.Assigned(); return a.OK })
		if a.Unit != p.LocalAddr().String() || math.Abs(a.Weight-weight) > 1e-9 {
			t.Errorf("%s has unit %q, weight %v; want %v, %v", p.By, a.Unit, a.Weight, p.LocalAddr(), weight)
		}
		if p.By == "g2" {
			candidate++
		}
	}
	if want := weight * float64(len(conns)); math.Abs(float64(candidate)-want) > 1.01 {
		t.Errorf("the candidate has %d of %d connections, want %.1f", candidate, len(conns), want)
	}
}

// mustNotBeAssigned fails the test if a process says that chance has decided about a connection in the present turn.
func mustNotBeAssigned(t *testing.T, conns []*testclient.Peer) {
	t.Helper()
	for _, p := range conns {
		if a := p.Assigned(); a != (plan.Assignment{}) {
			t.Errorf("%s: %+v", p.By, a)
		}
	}
}

func dialMany(r *testclient.Service, n int) (conns []*testclient.Peer) {
	for range n {
		conns = append(conns, r.Dial())
	}
	return conns
}

// with returns the connections that a process has.
func with(by string, conns []*testclient.Peer) (some []*testclient.Peer) {
	for _, p := range conns {
		if p.By == by {
			some = append(some, p)
		}
	}
	return some
}

// Both processes say for each request with which probability chance has given its connection to the candidate: for a new
// connection this is the weight, and for an idle one the part of the step. Connections that were decided in an earlier turn are
// not counted, in neither process, nor is any connection before the bake, after an abort and after a commit.
func TestBothProcessesKnowWhatChanceHasAssigned(t *testing.T) {
	for _, end := range []string{"commit", "abort"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, byWeights(0.25, 0.625, 0.5))
			const n = 80
			older := dialMany(r, n)
			mustNotBeAssigned(t, older)
			done := r.BeginUpgrade()
			r.AtStep(0)
			mustBeAssigned(t, older, 0.25)
			first := dialMany(r, n)
			mustBeAssigned(t, first, 0.25)
			all := append(older, first...)
			moved, left := with("g2", all), with("g1", all)
			r.GoOn()
			r.AtStep(1)
			mustNotBeAssigned(t, moved)
			mustBeAssigned(t, left, 0.5)
			second := dialMany(r, n)
			mustBeAssigned(t, second, 0.625)
			all = append(all, second...)
			r.GoOn()
			r.AtStep(2)
			mustNotBeAssigned(t, all)
			third := dialMany(r, n)
			mustBeAssigned(t, third, 0.5)
			mustNotBeAssigned(t, all)
			if end == "abort" {
				r.Ask("POST", "/abort")
			} else {
				r.GoOn()
			}
			if a := <-done; a.Committed != (end == "commit") {
				t.Fatalf("upgrade: %+v", a)
			}
			mustNotBeAssigned(t, append(all, third...))
			mustNotBeAssigned(t, dialMany(r, 5))
		})
	}
}

// With Sticky the unit is the address of the client, and the weight is the probability for new connections. Idle ones follow their
// address, and are no evidence.
func TestStickyConnectionsAreAssignedByAddress(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { byWeights(0.25, 0.5)(s); s.Sticky, s.Addr = true, "127.0.0.1:0" })
	const n = 60
	ip := func(i int) string { return fmt.Sprint("127.0.3.", 1+i) }
	var idle []*testclient.Peer
	for i := range n {
		idle = append(idle, dialFrom(t, r, ip(i)))
	}
	done := r.BeginUpgrade()
	r.AtStep(0)
	for step, weight := range []float64{0.25, 0.5} {
		for i, p := range idle {
			before, a := p.By, plan.Assignment{}
			fresh := dialFrom(t, r, ip(i))
			if b := fresh.Assigned(); b != (plan.Assignment{Unit: ip(i), Weight: weight, OK: true}) {
				t.Errorf("a new connection of %s: %+v", ip(i), b)
			}
			if step > 0 && before == "g2" { // the candidate has the connection since the first turn
				mustNotBeAssigned(t, []*testclient.Peer{p})
				continue
			}
			testutil.Until(t, patience, "the connection is where its address belongs", func() bool { a = p.Assigned(); return p.By == fresh.By })
			if a.OK {
				t.Errorf("an idle connection of %s is evidence: %+v", ip(i), a)
			}
		}
		if step == 0 {
			r.GoOn()
			r.AtStep(1)
		}
	}
	r.Ask("POST", "/abort")
	<-done
}

// The choice of the program is no chance: no connection is assigned by chance with Split.
func TestSplitAssignsNothing(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { byWeights(0.5)(s); s.Sticky, s.Split = true, plan.SplitAll })
	conns := dialMany(r, 20)
	done := r.BeginUpgrade()
	r.AtStep(0)
	testutil.Until(t, patience, "all have moved", func() bool { return testclient.Sides(t, conns)["g2"] == len(conns) })
	conns = append(conns, dialMany(r, 20)...)
	mustNotBeAssigned(t, conns)
	if got := len(with("g2", conns)); got != len(conns) {
		t.Errorf("the candidate has %d of %d connections", got, len(conns))
	}
	r.Ask("POST", "/abort")
	<-done
	mustNotBeAssigned(t, conns)
}
