package drain

import (
	"sync"
	"sync/atomic"
	"time"
)

// A readiness is what load balancers are told.
type readiness struct {
	state atomic.Int32     // of type ready
	tell  func(ready bool) // Options.Ready; may be nil

	mu    sync.Mutex // held over tell, so that the program learns of changes in their order; nothing else waits for mu
	since time.Time  // when an operator made the server a lame duck
}

// ready is a state of readiness.
type ready int32

const (
	isReady  ready = iota
	lameDuck       // by an operator, who can take that back
	stopping       // by a plain stop
)

// now returns the state.
func (r *readiness) now() ready { return ready(r.state.Load()) }

// set makes the server a lame duck or ready again, and reports whether it could: not once the final drain has begun.
func (r *readiness) set(to ready, c *course) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now() == stopping || c.at() != serving {
		return false
	}
	if to == lameDuck && r.now() != lameDuck {
		r.since = time.Now()
	}
	r.change(to)
	return true
}

// stop begins a plain stop, and returns how long the server was a lame duck before.
func (r *readiness) stop() (lame time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now() == lameDuck {
		lame = time.Since(r.since)
	}
	r.change(stopping)
	return lame
}

func (r *readiness) change(to ready) {
	r.state.Store(int32(to))
	if r.tell != nil {
		r.tell(to == isReady)
	}
}
