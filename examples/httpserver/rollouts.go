package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/upgrade"
)

// cartSalt identifies the new cart. The next new cart needs another salt: with the same salt, the evidence against cart-v2 would
// count against the next cart, and the same visitors would be the first again.
const cartSalt = "cart-v2"

// cartPlan is the value of the flag cart-v2.plan.
type cartPlan struct {
	Steps rollout.Steps `json:"steps"`
}

// cartRollout moves the share of the new cart: by the steps of the flag cart-v2.plan, or while cart-v2.plan is disabled by the
// number of the flag cart-v2. In both cases, the new cart is judged, and taken back if the new cart is worse. If an operator
// calls Revive after a rollback, the number counts again, without a judge.
type cartRollout struct {
	*rollout.Rollout
	plan   *flags.Var[cartPlan]
	last   rollout.Steps // the last plan; only for steps
	number func() float64
}

// newCartRollout returns the rollout of the new cart. The evidence comes from all processes.
func newCartRollout(ff *flags.Flags, kill *canary.KillSwitch, up *upgrade.Upgrader) (*cartRollout, error) {
	c := &cartRollout{number: ff.Weight("cart-v2", 0)}
	c.plan = flags.NewVar(ff, "cart-v2.plan", cartPlan{}, flags.VarOptions[cartPlan]{
		Validate: func(p cartPlan) error {
			if p.Steps == nil {
				return nil // there is no plan
			}
			return p.Steps.Check()
		},
	})
	var err error
	c.Rollout, err = rollout.New(rollout.Options{
		Name: "cart-v2.rollout", Salt: cartSalt, Kill: kill, Broadcast: up.Broadcast,
		Follows: func() bool { return up.Status().State != "serving" },
		Plan:    c.steps,
	})
	if err != nil {
		return nil, err
	}
	up.Keep("cart-v2.rollout", c.Rollout)
	up.OnBroadcast("cart-v2.rollout", c.Ingest)
	return c, nil
}

// beside runs the rollout until serve has returned: requests that end while the process drains count too.
func (c *cartRollout) beside(ctx context.Context, serve func() error) error {
	drained, done := context.WithCancel(context.WithoutCancel(ctx))
	var all sync.WaitGroup
	defer all.Wait()
	defer done()
	all.Go(func() { _ = c.Run(drained) })
	return serve()
}

// Weight returns the share of the new cart, for a router.
func (c *cartRollout) Weight() float64 {
	if c.plan.Get().Steps == nil {
		return c.number()
	}
	return c.Rollout.Weight()
}

// steps returns the plan, and the last plan while the flag is disabled. The Rollout calls steps in one goroutine.
func (c *cartRollout) steps() rollout.Steps {
	if steps := c.plan.Get().Steps; steps != nil {
		c.last = steps
	}
	return c.last
}

// saysNothing reports whether a request says nothing about a release: a probe, an event stream, a WebSocket.
func saysNothing(r *http.Request) bool {
	return r.Header.Get("Upgrade") != "" || r.URL.Path == "/events" || strings.HasSuffix(r.URL.Path, "z")
}

// newRelease returns the rollout of new processes by -steps. Without -steps, the rollout is not used.
func newRelease(steps rollout.Steps, broadcast func(string, []byte) error) (*rollout.Processes, error) {
	return rollout.NewProcesses(rollout.Options{
		Name: "release", Steps: steps, Ignore: saysNothing, Broadcast: broadcast,
		WarmUp: time.Second, // a new process is slower at first
	}, upgrade.Assigned)
}

// bake returns the judge of an upgrade, and nil without -steps.
func bake(steps rollout.Steps, release *rollout.Processes) func(context.Context, *upgrade.Candidate) error {
	if steps == nil {
		return nil
	}
	return func(ctx context.Context, candidate *upgrade.Candidate) error { return release.Bake(ctx, candidate) }
}

// operate returns an action of an operator on a rollout. The parameter rollout names the rollout: release, which is the default,
// or cart-v2.
func operate(release *rollout.Processes, cart *cartRollout, do func(*rollout.Rollout, string) error) func(url.Values) error {
	return func(q url.Values) error {
		var err error
		switch name := cmp.Or(q.Get("rollout"), "release"); name {
		case "release":
			err = do(release.Rollout(), q.Get("reason"))
		case "cart-v2":
			err = do(cart.Rollout, q.Get("reason"))
		default:
			return mistake(fmt.Errorf("rollout=%q: want release or cart-v2", name))
		}
		if errors.Is(err, rollout.ErrFollows) || errors.Is(err, rollout.ErrNotReady) || errors.Is(err, rollout.ErrWorse) {
			return &admin.Refusal{Status: http.StatusConflict, Answer: admin.Answer{Reason: err.Error()}}
		}
		return err
	}
}
