package upgrade

import (
	"fmt"
	"math"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// choice is how connections are chosen; nil: by counting.
func (o Options) choice() handoff.Choice {
	if o.Choose == nil && o.Sticky {
		return handoff.ByAddress
	}
	return o.Choose
}

// SetWeight gives the candidate a share of the connections, from 0 to 1. It works in Bake, at any time and in any
// direction. New connections are accepted here and passed on as they are: exactly the share, counted, or as
// Options.Sticky or Choose say. The same share of the idle connections is passed on as well if the server offers them
// ([Upgrader.Offers]). At 1 the candidate accepts by itself, and this process is a warm standby that has kept its sockets.
// What was passed comes back by a lower weight, by an abort, and by the death of the candidate as far as it has not
// used it.
//
// ErrNotSupported: not on this platform; it needs Linux. ErrNotReady: one of the two needs an exclusive resource to serve.
// ErrClosed: Bake has returned.
func (c *Candidate) SetWeight(w float64) error {
	if math.IsNaN(w) || w < 0 || w > 1 {
		return fmt.Errorf("upgrade: a weight of %v: want a number from 0 to 1", w)
	}
	if c.attempt == nil {
		return ErrClosed
	}
	return c.attempt.setWeight(w)
}

// Weight returns the share that the candidate has.
func (c *Candidate) Weight() float64 {
	if c.attempt == nil {
		return 0
	}
	return c.attempt.weightNow()
}

func (a *attempt) weightNow() float64 {
	d := a.dispatcher.Load()
	if d == nil {
		return 0
	}
	return d.Weight()
}

func (a *attempt) setWeight(w float64) error {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	switch {
	case !a.baking || a.plain:
		return fmt.Errorf("%w: Bake does not run, or has returned", ErrClosed)
	case !handoff.CanPass:
		return fmt.Errorf("%w: connections are passed on Linux only", ErrNotSupported)
	case a.exclusive:
		return fmt.Errorf("%w: an exclusive resource is needed to serve, so the candidate may not serve before the commit; Background says that it is not", ErrNotReady)
	}
	if a.dispatcher.Load() == nil {
		if err := a.share(); err != nil {
			return err
		}
	}
	from := a.dispatcher.Load().SetWeight(w)
	if err := a.turn(from, w); err != nil {
		a.dispatcher.Load().SetWeight(from)
		return fmt.Errorf("upgrade: weight %v: control socket: %w", w, err)
	}
	a.u.offer()
	a.report()
	return nil
}

// share begins to give connections away.
func (a *attempt) share() error {
	s, err := handoff.NewSlots()
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	err = handoff.SendTakes(a.child.link, a.u.listeners)
	if err == nil {
		err = a.child.link.Send(wire.KindShare, nil, s.File)
	}
	if err != nil {
		s.Close()
		return fmt.Errorf("upgrade: control socket: %w", err)
	}
	d := handoff.NewDispatcher(a.u.listeners, a.child.link, a.u.opts.choice(), a.takes, s)
	a.open = true // it may have requests to finish
	a.dispatcher.Store(d)
	a.u.listeners.SetDispatch(d.Dispatch)
	a.u.setMover(d.Move)
	a.heard()
	return nil
}

// turn tells the candidate what a new weight means for it: whether it accepts by itself, and which part of what it has
// comes back. It accepts before this process does not any more, unless it stops right then: then Silence ends that.
func (a *attempt) turn(from, to float64) error {
	link := a.child.link
	switch {
	case a.beside: // this process goes on to accept, also for the candidate
	case to == 1 && from < 1:
		a.open = true
		if err := link.Send(wire.KindOpen, nil); err != nil {
			return err
		}
		a.u.listeners.Pause(false)
	case from == 1 && to < 1:
		a.u.listeners.Open(true)
		if err := link.Send(wire.KindShut, nil); err != nil {
			return err
		}
	}
	if to < from {
		return link.Send(wire.KindWeight, wire.WeightBody{From: from, To: to})
	}
	return nil
}

// setBaking says whether weights may be set.
func (a *attempt) setBaking(on bool) {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	a.baking = on
}

// stopSharing stops giving connections away.
func (a *attempt) stopSharing() {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	a.baking = false
	if d := a.dispatcher.Load(); d != nil {
		a.u.listeners.SetDispatch(nil)
		a.u.setMover(nil)
		d.Sweep()
		d.Stop()
	}
}
