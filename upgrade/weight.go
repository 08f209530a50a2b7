package upgrade

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// shares divides the connections between this process and the candidate. The candidate gets no connections before the first
// call of setWeight.
type shares struct {
	turn    sync.Mutex                         // held while a weight is set and sent; the attempt never waits for this lock
	mu      sync.Mutex                         // held while the stage changes, and while setWeight changes what this process does
	to      atomic.Pointer[handoff.Dispatcher] // see dispatcher
	attempt *attempt
	takes   handoff.Takes // the listeners whose connections the candidate can take
	over    bool          // endBake was called
	full    atomic.Bool   // logFull was called
}

// dispatcher returns the dispatcher that passes connections to the candidate. The result is nil if no weight was set.
func (s *shares) dispatcher() *handoff.Dispatcher { return s.to.Load() }

func (s *shares) weight() float64 {
	if d := s.dispatcher(); d != nil {
		return d.Weight()
	}
	return 0
}

// setWeight sets the candidate's share of the connections. Concurrent calls take effect one after the other. The stage of the
// attempt may change while setWeight sends: from then on setWeight changes nothing, sends nothing, and returns ErrClosed.
func (s *shares) setWeight(w float64) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.begin(); err != nil {
		return err
	}
	var from float64
	err := s.whileBaking(func() { from = s.dispatcher().SetWeight(w) })
	if err != nil {
		return err
	}
	if err := s.tell(from, w); err != nil {
		s.dispatcher().SetWeight(from)
		return err
	}
	return s.whileBaking(func() {
		s.attempt.traffic.offer()
		s.attempt.report()
	})
}

// whileBaking calls fn if a weight may be set. The stage does not change while fn runs, so fn must not wait.
func (s *shares) whileBaking(fn func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || attTable[s.attempt.stage][evWeighed].do != doAllow {
		return fmt.Errorf("%w: Bake does not run, or has returned", ErrClosed)
	}
	fn()
	return nil
}

// endBake ends the setting of weights. If back is true, this process accepts again at once, and does not wait for the judge.
func (s *shares) endBake(back bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if back && s.dispatcher() != nil {
		s.attempt.estate.listeners.Open(true)
	}
}

// baking returns nil if a weight may be set.
func (s *shares) baking() error { return s.whileBaking(func() {}) }

// send sends the candidate a message that the candidate must not get after Bake.
func (s *shares) send(k wire.Kind, body any, files ...*os.File) error {
	return linkError(s.attempt.child.link.SendIf(s.baking, k, body, files...))
}

// linkError adds to an error of sending that the control socket has failed. The error of whileBaking stays as it is.
func linkError(err error) error {
	if err == nil || errors.Is(err, ErrClosed) {
		return err
	}
	return fmt.Errorf("upgrade: control socket: %w", err)
}

// begin makes this process ready to pass connections to the candidate, unless an earlier call has done so.
func (s *shares) begin() error {
	switch err := s.baking(); {
	case err != nil:
		return err
	case !handoff.CanPass:
		return fmt.Errorf("%w: connections are passed on Linux only", ErrNotSupported)
	case s.attempt.exclusive():
		return fmt.Errorf("%w: an exclusive resource is needed to serve, so the candidate may not serve before the commit; Background says that it is not", ErrNotReady)
	case s.dispatcher() != nil:
		return nil
	}
	slots, err := handoff.NewSlots()
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	listeners, link := s.attempt.estate.listeners, s.attempt.child.link
	if err = linkError(handoff.SendTakes(link, listeners)); err == nil {
		err = s.send(wire.KindShare, nil, slots.File)
	}
	if err == nil {
		opts := s.attempt.opts
		d := handoff.NewDispatcher(listeners, link, opts.Split, opts.Sticky, s.takes, slots, s.logFull)
		err = s.whileBaking(func() {
			s.to.Store(d)
			listeners.SetDispatch(d.Dispatch)
			s.attempt.traffic.setMover(d)
			s.attempt.heartbeat.begin()
		})
	}
	if err != nil {
		slots.Close()
	}
	return err
}

// logFull logs once that the candidate does not take all idle connections.
func (s *shares) logFull() {
	if s.full.Swap(true) {
		return
	}
	s.attempt.log.Warn("upgrade: the new process has no room for all idle connections, and the others stay here: raise its limit of open files (ulimit -n, LimitNOFILE)", "pid", s.attempt.child.PID)
}

// tell sends the candidate the consequences of a new weight: whether the candidate accepts by itself, and which part of its
// connections comes back. At weight 1, this process sends the message open first, and stops accepting afterwards. If the
// candidate hangs when the message comes, no process accepts until Options.Silence is over and the attempt is taken back.
func (s *shares) tell(from, to float64) error {
	listeners := s.attempt.estate.listeners
	var err error
	switch {
	case s.attempt.prepared.Beside: // this process also accepts at weight 1, and passes all connections on
	case to == 1 && from < 1:
		if err = s.send(wire.KindOpen, nil); err == nil {
			err = s.whileBaking(func() { listeners.Pause(false) })
		}
	case from == 1 && to < 1:
		if err = s.whileBaking(func() { listeners.Open(true) }); err == nil {
			err = s.send(wire.KindShut, nil)
		}
	}
	if err == nil && to < from {
		err = s.send(wire.KindWeight, wire.WeightBody{From: from, To: to})
	}
	return err
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
// connections. The argument reclaim is true if the candidate is dead. In this case settle also takes back the connections that
// the candidate was not using, or was sending back.
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
