package upgrade

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// shares divides the connections between this process and the candidate. The candidate gets no connections before the first
// call of setWeight.
type shares struct {
	mu      sync.Mutex                         // held while a weight is set, and while the stage changes
	to      atomic.Pointer[handoff.Dispatcher] // passes connections to the candidate; nil if no weight was set
	attempt *attempt
	takes   handoff.Takes // the listeners whose connections the candidate can take
}

// dispatcher returns the dispatcher that passes connections to the candidate. The result is nil if no weight was set.
func (s *shares) dispatcher() *handoff.Dispatcher { return s.to.Load() }

func (s *shares) weight() float64 {
	if d := s.dispatcher(); d != nil {
		return d.Weight()
	}
	return 0
}

func (s *shares) setWeight(w float64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case attTable[s.attempt.stage][evWeighed].do != doAllow:
		return fmt.Errorf("%w: Bake does not run, or has returned", ErrClosed)
	case !handoff.CanPass:
		return fmt.Errorf("%w: connections are passed on Linux only", ErrNotSupported)
	case s.attempt.exclusive():
		return fmt.Errorf("%w: an exclusive resource is needed to serve, so the candidate may not serve before the commit; Background says that it is not", ErrNotReady)
	}
	if s.dispatcher() == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	from := s.dispatcher().SetWeight(w)
	if err := s.turn(from, w); err != nil {
		s.dispatcher().SetWeight(from)
		return fmt.Errorf("upgrade: weight %v: control socket: %w", w, err)
	}
	s.attempt.traffic.offer()
	s.attempt.report()
	return nil
}

// begin begins to pass connections to the candidate.
func (s *shares) begin() error {
	slots, err := handoff.NewSlots()
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	link := s.attempt.child.link
	err = handoff.SendTakes(link, s.attempt.estate.listeners)
	if err == nil {
		err = link.Send(wire.KindShare, nil, slots.File)
	}
	if err != nil {
		slots.Close()
		return fmt.Errorf("upgrade: control socket: %w", err)
	}
	d := handoff.NewDispatcher(s.attempt.estate.listeners, link, s.attempt.opts.choice(), s.takes, slots)
	s.to.Store(d)
	s.attempt.estate.listeners.SetDispatch(d.Dispatch)
	s.attempt.traffic.setMover(d.Move)
	s.attempt.heartbeat.begin()
	return nil
}

// turn sends the candidate what a new weight means: whether the candidate accepts by itself, and which part of its connections
// it has to send back. At weight 1, this process first sends the message open, and then stops accepting. If the candidate hangs
// at this time, no process accepts until Options.Silence is over and the attempt is taken back.
func (s *shares) turn(from, to float64) error {
	link := s.attempt.child.link
	switch {
	case s.attempt.prepared.Beside: // this process also accepts at weight 1, and passes all connections on
	case to == 1 && from < 1:
		if err := link.Send(wire.KindOpen, nil); err != nil {
			return err
		}
		s.attempt.estate.listeners.Pause(false)
	case from == 1 && to < 1:
		s.attempt.estate.listeners.Open(true)
		if err := link.Send(wire.KindShut, nil); err != nil {
			return err
		}
	}
	if to < from {
		return link.Send(wire.KindWeight, wire.WeightBody{From: from, To: to})
	}
	return nil
}

// stop ends the passing of connections to the candidate.
func (s *shares) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.dispatcher(); d != nil {
		s.attempt.estate.listeners.SetDispatch(nil)
		s.attempt.traffic.setMover(nil)
		d.Sweep()
		d.Stop()
	}
}

// settle takes back the connections that the candidate has refused, and closes this process's descriptors of the other passed
// connections. If reclaim is true, the candidate is dead, and settle also takes back the connections that the candidate has not
// served.
func (s *shares) settle(reclaim bool) {
	d := s.dispatcher()
	if d == nil {
		return
	}
	if lost := d.Settle(reclaim); lost > 0 {
		s.attempt.log.Error("upgrade: connections are lost that the candidate has not served: no descriptors, or no listener", "connections", lost)
	}
}

// returned handles the message conn, by which the candidate sends a connection back.
func (s *shares) returned(f wire.Frame) {
	var about wire.ConnBody
	if f.Decode(&about) != nil {
		return
	}
	err := wire.ErrMissing
	if len(f.Files) > 0 {
		here := about
		here.Slot = 0
		err = handoff.GiveMoved(s.attempt.estate.listeners, here, f.Files[0], nil)
	}
	d := s.dispatcher()
	if kept := d != nil && d.Returned(about, err == nil); !kept && err != nil {
		s.attempt.log.Error("upgrade: a connection is lost that the candidate has sent back", "candidate", s.attempt.child.PID, "err", err)
	}
}
