package upgrade

import (
	"cmp"
	"context"
	"time"
)

// BlueGreen is a Bake that gives the candidate all traffic at once, and keeps the old process as a warm standby for a while:
//
//	up, err := upgrade.New(upgrade.Options{Bake: upgrade.BlueGreen{Standby: 10 * time.Minute}.Bake})
//
// During the standby the candidate accepts all connections. Idle connections that can move (see [Upgrader.Move]) have moved to
// the candidate too. The old process finishes the requests that it has begun, and keeps its sockets, its state and the other
// connections, which work as before: those with TLS and HTTP/2, for example. Clients see no close and no refusal.
//
// [Upgrader.Abort], one call by an operator, brings everything back: the old process accepts at once, idle connections return
// to it, and the candidate finishes its requests and ends. If the candidate dies or hangs, the old process accepts at once,
// too. Only two kinds of connections are lost then: those from which the candidate has read a request without answering it, and
// those that the candidate has accepted itself. [Upgrader.Commit] ends the standby early. After the standby, the candidate is
// committed.
type BlueGreen struct {
	// Standby is how long the old process stays warm before the commit. Default: 10 minutes. Negative: none, so that the
	// candidate is committed when it has all traffic.
	Standby time.Duration
}

const defaultStandby = 10 * time.Minute

// Bake is made for Options.Bake. It returns nil after the standby. If ctx ends before, Bake returns at once, with the cause. If
// the candidate cannot get a weight, Bake returns the error of [Candidate.SetWeight], and the upgrade is taken back.
func (b BlueGreen) Bake(ctx context.Context, c *Candidate) error {
	if err := c.SetWeight(1); err != nil || b.Standby < 0 {
		return err
	}
	over := time.NewTimer(cmp.Or(b.Standby, defaultStandby))
	defer over.Stop()
	select {
	case <-over.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
