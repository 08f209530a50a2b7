package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/midair-go/midair/internal/guard"
)

// callers are the goroutines of Run that call functions of the program. If such a function blocks, no other goroutine, no
// evidence and no rollback waits for it.
type callers struct {
	*control
	*referee
	opts   *Options
	status func() Status
}

// awaitReady asks Options.Ready until the canary is ready.
func (c *callers) awaitReady(ctx context.Context) {
	for {
		err := guard.Call(func() error { return c.opts.Ready(ctx) })
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			c.opts.Logger.Warn("rollout: the canary is not ready", slog.String("name", c.opts.Name), slog.Any("err", err))
		}
		if pause(ctx, time.Second) != nil {
			return
		}
	}
	c.control.setReady()
	poke(c.wake)
}

// note logs decisions, and publishes the latch, also of a rollback just before Run ends.
func (c *callers) note(ctx context.Context) {
	for ended := false; !ended; {
		changed := c.control.change()
		ended = ctx.Err() != nil
		for _, d := range c.control.take(toLog) {
			c.log(d)
			if d.State == RolledBack {
				c.publishLatch(d.Reason)
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

func (c *callers) log(d Decision) {
	level := slog.LevelInfo
	if d.State == RolledBack || d.State == Held || d.State == Aborted {
		level = slog.LevelWarn
	}
	evidence := c.evidence.Status()
	c.opts.Logger.Log(context.Background(), level, "rollout: "+d.State.String(), slog.String("name", c.opts.Name),
		slog.Int("step", d.Step), slog.Float64("weight", d.Weight), slog.String("reason", d.Reason),
		slog.String("evidence", evidence.String()), slog.String("not_excluded", notExcluded(evidence)))
}

// publishLatch sends the latch to other processes, and writes it to the file. It latches first: the goroutine of the request that
// has rolled back may not have latched yet.
func (c *callers) publishLatch(reason string) {
	if c.opts.Kill == nil {
		return
	}
	c.latch(reason)
	if err := c.opts.Kill.Publish(); err != nil {
		c.opts.Logger.Error("rollout: the latch is in force here only", slog.String("name", c.opts.Name), slog.Any("err", err))
	}
}

// tell passes decisions to Options.Decided, also those just before Run ends: their context ends tellLimit after ctx.
func (c *callers) tell(ctx context.Context) {
	told, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { // ends with told
		_ = pause(told, tellLimit)
		cancel()
	})()
	for ended := false; !ended; {
		changed := c.control.change()
		ended = ctx.Err() != nil
		for _, d := range c.control.take(toTell) {
			c.call("Decided", func() { c.opts.Decided(told, d) })
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// call calls a function of the program, and reports whether it has returned.
func (c *callers) call(name string, fn func()) (ok bool) {
	err := guard.Call(func() error { fn(); return nil })
	if err != nil {
		c.opts.Logger.Error("rollout: Options."+name+" has panicked", slog.String("name", c.opts.Name), slog.Any("err", err))
	}
	return err == nil
}

// ask asks the external judge while this process decides.
func (c *callers) ask(ctx context.Context) {
	for {
		if !c.follows() {
			c.askOnce(ctx)
		}
		if pause(ctx, c.opts.AskEvery) != nil {
			return
		}
	}
}

func (c *callers) askOnce(ctx context.Context) {
	var opinion Opinion
	status := c.status()
	if !c.call("Opinion", func() { opinion = c.opts.Opinion(ctx, status) }) {
		opinion = Opinion{Hold: true, Most: math.NaN(), Reason: "Opinion has panicked"}
	}
	switch {
	case ctx.Err() != nil || c.follows():
	case opinion.RollBack:
		c.control.fire(onOpinion, "the external judge: "+opinion.Reason, 0)
	default:
		c.control.hear(opinion)
	}
}

// drive calls SetWeight with the present weight, and with each new weight, while this process decides. The present weight comes
// first, because the load balancer may still have the weight of a process which has crashed.
func (c *callers) drive(ctx context.Context) {
	driven := math.NaN()
	for {
		changed := c.control.change()
		if weight := c.control.Weight(); weight != driven && !c.follows() && c.setWeight(weight, driven == driven) == nil {
			driven = weight
		}
		var again <-chan time.Time
		if c.control.Weight() != driven {
			again = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// driveOnce calls SetWeight with each new weight, also with the last one before Run ends: a candidate that is taken back gets a
// weight of 0, and Bake may have to wait for functions of the program. The first error ends Run.
func (c *callers) driveOnce(ctx context.Context, end context.CancelCauseFunc) {
	driven := 0.0
	for ended := false; !ended; {
		changed := c.control.change()
		ended = ctx.Err() != nil
		if weight := c.control.Weight(); weight != driven {
			if err := c.setWeight(weight, true); err != nil {
				end(fmt.Errorf("rollout: SetWeight(%v): %w", weight, err))
				return
			}
			driven = weight
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// setWeight calls SetWeight. again is true if this process has called it before: a process that has taken over sets the weight of a
// step that goes on.
func (c *callers) setWeight(weight float64, again bool) error {
	err := guard.Call(func() error { return c.opts.SetWeight(weight) })
	c.control.setDriven(weight, err, again)
	return err
}
