package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// customers keeps clients asking for the cart. Each request is that of another visitor.
func (s *site) customers() *testutil.Load {
	s.t.Helper()
	return testutil.StartLoad(s.t, testutil.LoadOptions{Addr: s.addr, KeepAlive: 8, Path: "/cart"})
}

// planCart enables the plan of the new cart, with other steps.
func (s *site) planCart(steps string) {
	s.t.Helper()
	from := strings.Index(defaultFlags, `"quick": {"steps": `)
	file := defaultFlags[:from] + fmt.Sprintf(`"test": {"steps": [%s]}, `, steps) + defaultFlags[from:]
	file = strings.Replace(file, `"state": "DISABLED"`, `"state": "ENABLED"`, 1)
	file = strings.Replace(file, `"defaultVariant": "careful"`, `"defaultVariant": "test"`, 1)
	if err := writeFile(s.file("flags.json"), file); err != nil {
		s.t.Fatal(err)
	}
}

// A new cart that fails for 2 % of its visitors is taken back, at a weight that the flag cart-v2 has set: every visitor gets the
// stable cart, also after an upgrade, and after the weight has grown. The status says why.
func TestBadCartIsTakenBack(t *testing.T) {
	for range *judgedReleases {
		s := startSite(t, "-fail", "cart-errors=0.02")
		s.weigh("25%")
		l := s.customers()
		testutil.Until(t, 3*patience, "the cart is taken back", func() bool { return s.status().Rollout.State == "rolled back" })
		st := s.status()
		t.Logf("%v; %d requests", st.Rollout, l.Total())
		verdict := st.Rollout.Judge.Verdict
		if st.Kill.State != "latched" || st.Canary.DecidedBy != "latched" || st.Canary.Weight != 0 || verdict != "regression" {
			t.Errorf("the switch is %s, the weight is %v, decided by %s, the verdict is %s",
				st.Kill.State, st.Canary.Weight, st.Canary.DecidedBy, verdict)
		}
		s.release()
		s.post("/upgrade", 200)
		if err := writeFile(s.file("flags.json"), flagFile("100%")); err != nil {
			t.Fatal(err)
		}
		testutil.Until(t, patience, "the flag is read", func() bool {
			return strings.Contains(s.ask("GET", "/visitor", "").body, `"weight": 1`)
		})
		if side := s.sides(2); side != "stable" {
			t.Errorf("after the upgrade the side is %s", side)
		}
		if state := s.status().Rollout.State; state != "rolled back" {
			t.Errorf("after the upgrade the rollout is %s", state)
		}
		for _, f := range l.Stop().Failed {
			if f.Status != 500 {
				t.Errorf("lost: %v", f)
			}
		}
	}
}

// A plan in the flag file moves the weight step by step, goes on through an upgrade with the same evidence, and ends with all
// requests. Without the plan, the number counts again.
func TestCartFollowsItsPlan(t *testing.T) {
	for range *judgedReleases {
		s := startSite(t)
		l := s.customers()
		s.planCart(`{"weight": 0.1, "for": "0s", "min_samples": 300}, {"weight": 0.5, "for": "0s", "min_samples": 300, "gate": true}`)
		testutil.Until(t, patience, "the gate", func() bool { return s.status().Rollout.State == "gated" })
		before := s.status()
		if before.Canary.Weight != .5 || before.Rollout.Step != 2 || before.Rollout.Judge.Canary.Requests < 600 {
			t.Errorf("at the gate the weight is %v, in %v", before.Canary.Weight, before.Rollout)
		}
		s.release()
		s.post("/upgrade", 200)
		testutil.Until(t, patience, "the new process decides", func() bool { return s.status().Rollout.Leads })
		after := s.status()
		counted, then := after.Rollout.Judge.Canary.Requests, before.Rollout.Judge.Canary.Requests
		if after.Rollout.State != "gated" || after.Canary.Weight != .5 || counted < then {
			t.Errorf("after the upgrade the weight is %v, in %v, before in %v", after.Canary.Weight, after.Rollout, before.Rollout)
		}
		s.post("/resume?rollout=cart-v2", 200)
		testutil.Until(t, patience, "all requests", func() bool { return s.status().Canary.Weight == 1 })
		if side := s.sides(2); side != "canary" {
			t.Errorf("at the end the side is %s", side)
		}
		t.Logf("%v; %d requests", s.status().Rollout, l.Total())
		s.weigh("25%")
		s.mustLoseNothing(l)
	}
}
