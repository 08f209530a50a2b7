package upgrade

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

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

// SetWeight gives the candidate a share of the connections, from 0 to 1. It works in Bake, at any time and in any direction. This
// process accepts new connections and passes the share on: counted exactly, or as Options.Sticky or Choose decide. The same share
// of the idle connections is passed on as well if the server offers them ([Upgrader.Offers]). At 1 the candidate accepts by itself,
// and this process is a warm standby that has kept its sockets. Passed connections come back by a lower weight, by an abort, and,
// if the candidate has not used them, by the death of the candidate.
//
// ErrNotSupported: not on this platform; SetWeight needs Linux. ErrNotReady: the old or the new process needs an exclusive resource
// to serve. ErrClosed: Bake has returned.
func (c *Candidate) SetWeight(w float64) error {
	if math.IsNaN(w) || w < 0 || w > 1 {
		return fmt.Errorf("upgrade: a weight of %v: want a number from 0 to 1", w)
	}
	if c.attempt == nil {
		return ErrClosed
	}
	return c.attempt.shares.setWeight(c.attempt, w)
}

// Weight returns the candidate's share.
func (c *Candidate) Weight() float64 {
	if c.attempt == nil {
		return 0
	}
	return c.attempt.shares.weight()
}

// shares divides the connections between this process and the candidate. The zero value gives the candidate none.
type shares struct {
	mu    sync.Mutex // of the judge, which sets weights, and of the change of the stage
	to    atomic.Pointer[handoff.Dispatcher]
	takes handoff.Takes // which connections the candidate can be passed
}

// dispatcher passes connections to the candidate; nil: no weight was set.
func (s *shares) dispatcher() *handoff.Dispatcher { return s.to.Load() }

func (s *shares) weight() float64 {
	if d := s.dispatcher(); d != nil {
		return d.Weight()
	}
	return 0
}

func (s *shares) setWeight(a *attempt, w float64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case attTable[a.stage][evWeighed].do != doAllow:
		return fmt.Errorf("%w: Bake does not run, or has returned", ErrClosed)
	case !handoff.CanPass:
		return fmt.Errorf("%w: connections are passed on Linux only", ErrNotSupported)
	case a.exclusive():
		return fmt.Errorf("%w: an exclusive resource is needed to serve, so the candidate may not serve before the commit; Background says that it is not", ErrNotReady)
	}
	if s.dispatcher() == nil {
		if err := s.begin(a); err != nil {
			return err
		}
	}
	from := s.dispatcher().SetWeight(w)
	if err := s.turn(a, from, w); err != nil {
		s.dispatcher().SetWeight(from)
		return fmt.Errorf("upgrade: weight %v: control socket: %w", w, err)
	}
	a.host.offer()
	a.report()
	return nil
}

// begin begins to pass connections to the candidate.
func (s *shares) begin(a *attempt) error {
	slots, err := handoff.NewSlots()
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	link := a.child.link
	err = handoff.SendTakes(link, a.estate.listeners)
	if err == nil {
		err = link.Send(wire.KindShare, nil, slots.File)
	}
	if err != nil {
		slots.Close()
		return fmt.Errorf("upgrade: control socket: %w", err)
	}
	d := handoff.NewDispatcher(a.estate.listeners, link, a.opts.choice(), s.takes, slots)
	s.to.Store(d)
	a.estate.listeners.SetDispatch(d.Dispatch)
	a.host.setMover(d.Move)
	a.heartbeat.begin()
	return nil
}

// turn sends the candidate what a new weight means: whether the candidate accepts by itself, and which part of its connections
// comes back. The candidate accepts before this process stops accepting. If the candidate stops right then, Silence ends the
// attempt.
func (s *shares) turn(a *attempt, from, to float64) error {
	link := a.child.link
	switch {
	case a.prepared.Beside: // this process goes on to accept, also for the candidate
	case to == 1 && from < 1:
		if err := link.Send(wire.KindOpen, nil); err != nil {
			return err
		}
		a.estate.listeners.Pause(false)
	case from == 1 && to < 1:
		a.estate.listeners.Open(true)
		if err := link.Send(wire.KindShut, nil); err != nil {
			return err
		}
	}
	if to < from {
		return link.Send(wire.KindWeight, wire.WeightBody{From: from, To: to})
	}
	return nil
}

// stop stops passing connections.
func (s *shares) stop(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.dispatcher(); d != nil {
		a.estate.listeners.SetDispatch(nil)
		a.host.setMover(nil)
		d.Sweep()
		d.Stop()
	}
}

// settle ends the division of connections. With reclaim the candidate is dead, and this process serves the connections that the
// candidate has not served.
func (s *shares) settle(a *attempt, reclaim bool) {
	d := s.dispatcher()
	if d == nil {
		return
	}
	if lost := d.Settle(reclaim); lost > 0 {
		a.log.Error("upgrade: connections are lost that the candidate has not served: no descriptors, or no listener", "connections", lost)
	}
}

// returned takes back a connection that the candidate sends.
func (s *shares) returned(a *attempt, f wire.Frame) {
	var about wire.ConnBody
	if f.Decode(&about) != nil {
		return
	}
	err := wire.ErrMissing
	if len(f.Files) > 0 {
		here := about
		here.Slot = 0
		err = handoff.GiveMoved(a.estate.listeners, here, f.Files[0], nil)
	}
	d := s.dispatcher()
	if kept := d != nil && d.Returned(about, err == nil); !kept && err != nil {
		a.log.Error("upgrade: a connection is lost that the candidate has sent back", "candidate", a.child.PID, "err", err)
	}
}
