package drain

import (
	"sync"
	"sync/atomic"
	"time"
)

// A readiness says whether a Server is ready, for the probes of load balancers.
type readiness struct {
	state atomic.Int32     // of type ready
	tell  func(ready bool) // Options.Ready; may be nil

	mu    sync.Mutex // locked while tell runs, so that tell is called in the order of the changes
	since time.Time  // when an operator made the server a lame duck
}

// ready is a state of a readiness.
type ready int32

const (
	isReady  ready = iota
	lameDuck       // an operator has called Drain, and can call Resume
	stopping       // a plain stop has begun
)

// now returns the state. It does not lock mu, so requests do not wait for tell.
func (r *readiness) now() ready { return ready(r.state.Load()) }

// set makes the server a lame duck, or ready again. It returns false and changes nothing if the final drain has begun.
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

// stop changes the state to stopping, and returns how long the server has been a lame duck until now.
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
