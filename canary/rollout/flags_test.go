package rollout_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/internal/testutil"
)

// flagFile has a plan, and a flag that a rollout moves.
func flagFile(plan string) string {
	return fmt.Sprintf(`{"flags": {
		"cart.plan": {"state": "ENABLED", "variants": {"plan": %s}, "defaultVariant": "plan"},
		"cart": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}}}`, plan)
}

// A flag has the plan of a rollout: who edits the file moves a running rollout, an edit that is no plan stays without effect, and a
// guarded flag follows the weight.
func TestFlagIsThePlanAndAnotherFlagFollows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags.json")
	write := func(plan string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(flagFile(plan)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(`[{"weight": 0.1, "for": "24h"}]`)
	var ro *rollout.Rollout
	f, err := flags.Open(path, flags.Options{Poll: 10 * time.Millisecond, Logger: quiet,
		Guards: []flags.Guard{flags.Guarded("cart", func() float64 { return ro.Weight() })}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	steps := flags.NewVar(f, "cart.plan", rollout.Steps{}, flags.VarOptions[rollout.Steps]{Validate: rollout.Steps.Check})
	log := &lines{}
	ro, err = rollout.New(rollout.Options{Plan: steps.Get, Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, ro)()
	cart := f.BoolFlag("cart", false)
	const visitors = 10_000
	share := func() float64 {
		on := 0
		for i := range visitors {
			if cart.Get(f.With(context.Background(), "visitor "+strconv.Itoa(i), nil)) {
				on++
			}
		}
		return float64(on) / visitors
	}
	want := func(weight float64) {
		t.Helper()
		testutil.Until(t, 20*time.Second, fmt.Sprintf("a weight of %v", weight), func() bool { return ro.Weight() == weight })
		if got := share(); got < weight-.03 || got > weight+.03 {
			t.Errorf("the flag is on for a share of %v, want %v", got, weight)
		}
	}
	want(.1)
	write(`[{"weight": 0.3, "for": "24h"}]`)
	want(.3)
	for _, wrong := range []string{`[]`, `[{"weight": 3, "for": "1h"}]`, `[{"weight": 0.9, "for": "soon"}]`, `"all"`, `[{"weight": 0.5, "for": "1h"}, {"weight": 0.5, "for": "1h"}]`} {
		looks := func() uint64 { return f.Status().Loads + f.Status().Refusals }
		before := looks()
		write(wrong)
		testutil.Until(t, 20*time.Second, "the edit "+wrong, func() bool { return looks() > before })
		if w := ro.Weight(); w != .3 {
			t.Errorf("the weight is %v after the edit %s", w, wrong)
		}
	}
	write(`[{"weight": 0.3, "for": "0s"}, {"weight": 0.6, "for": "24h"}]`)
	want(.6)
	for ro.Weight() > 0 {
		ro.Observe(sent(canary.Canary, .3, 500))
	}
	want(0)
	write(`[{"weight": 0.9, "for": "24h"}]`)
	testutil.Until(t, 20*time.Second, "the new plan", func() bool { return ro.Status().Steps[0].Weight == .9 })
	want(0)
}
