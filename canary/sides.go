package canary

import (
	"sync"
	"sync/atomic"
)

// sides is the side that a Switch has in use, and who waits until a side has no request left.
type sides struct {
	green   atomic.Bool  // the canary side is in use
	waiting atomic.Int32 // how many channels of idle are open

	mu       sync.Mutex // guards the fields below
	arms     [2][]*arm  // by Side: those of all routers
	chans    [2][]chan struct{}
	leftIdle [2]bool // by Side: a channel was closed while the side was not in use; nothing is rescued there
}

func (s *sides) inUse() Side {
	if s.green.Load() {
		return Canary
	}
	return Stable
}

// set brings a side into use, and reports whether it was not.
func (s *sides) set(green bool) (changed bool) {
	if s.green.Swap(green) == green {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leftIdle[s.inUse()] = false
	return true
}

// add adds the arms of a router.
func (s *sides) add(arms *[2]arm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for side := range arms {
		arms[side].sides = s
		s.arms[side] = append(s.arms[side], &arms[side])
	}
}

// idle is Switch.Idle.
func (s *sides) idle(side Side) <-chan struct{} {
	ended := make(chan struct{})
	if side > Canary {
		close(ended)
		return ended
	}
	s.waiting.Add(1) // before look reads the counters: an end after that looks too
	s.mu.Lock()
	s.chans[side] = append(s.chans[side], ended)
	s.mu.Unlock()
	s.look(side)
	return ended
}

// look closes the channels of a side if no request is under way there.
func (s *sides) look(side Side) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.arms[side] {
		if a.inFlight() > 0 {
			return
		}
	}
	for _, ended := range s.chans[side] {
		close(ended)
		s.leftIdle[side] = side != s.inUse()
	}
	s.waiting.Add(-int32(len(s.chans[side])))
	s.chans[side] = nil
}

// ended is called after the end of each request.
func (s *sides) ended(side Side) {
	if s.waiting.Load() > 0 {
		s.look(side)
	}
}

// beginAgain is that of an arm.
func (s *sides) beginAgain(a *arm) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leftIdle[a.side] {
		return false
	}
	a.begun.Add(1)
	return true
}
