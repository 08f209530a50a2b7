package drain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// sweepTime is how long the accept queue has to be empty before the sweep ends. In a plain stop, the sweep accepts the
	// connections in the queue, and then the listener is closed. sweepTime is not zero, since an Accept whose deadline is in
	// the past does not look into the queue.
	sweepTime = 20 * time.Millisecond
	// sweepLimit limits the whole sweep, since perhaps new connections do not stop coming.
	sweepLimit = time.Second
)

// A listener registers the connections of Accept.
type listener struct {
	net.Listener
	accept func() (net.Conn, error)   // the Accept or AcceptMoved of Listener
	track  func(nc net.Conn) net.Conn // registers a connection, and returns what the server gets
	used   atomic.Bool                // Accept was called
	closed sync.Once

	mu        sync.Mutex
	accepting bool        // Accept was called and has not returned
	limit     time.Time   // when the sweep has to end; zero before the drain begins to end the accept loop
	timer     *time.Timer // used by arm if Listener has no SetDeadline: closes the listener; otherwise nil
}

var _ net.Listener = (*listener)(nil)

// Accept returns every connection that it gets, even if the drain has begun while Accept waited: the server serves such a
// connection too. If the sweep begins just after the first call of arm, the deadline of the sweep may pass before l.accept has
// looked into the queue. So if l.accept fails by this deadline, Accept calls l.accept once more.
func (l *listener) Accept() (net.Conn, error) {
	l.used.Store(true)
	armed := l.arm(true)
	nc, err := l.accept()
	if err != nil && timeout(err) && !armed && l.arm(true) {
		nc, err = l.accept()
	}
	l.disarm()
	if err == nil {
		return l.track(nc), nil
	}
	if l.over(err) {
		return nil, errStopped
	}
	return nil, err
}

// arm limits an Accept during the sweep to sweepTime. It reports whether it has set a limit that is not over yet. Accept calls
// arm with accepting == true. The sweep calls arm with accepting == false, and then a limit is set only if an Accept is
// running. If no Accept is running, the accept loop is busy with something else, and the limit could pass although the queue is
// not empty.
func (l *listener) arm(accepting bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepting = l.accepting || accepting
	if l.limit.IsZero() || !l.accepting {
		return false
	}
	left := min(time.Until(l.limit), sweepTime)
	d, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	switch {
	case ok && d.SetDeadline(time.Now().Add(left)) == nil:
	case l.timer == nil:
		l.timer = time.AfterFunc(left, func() { l.Close() })
	default:
		l.timer.Reset(left)
	}
	return left > 0
}

// disarm notes the end of an Accept.
func (l *listener) disarm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.accepting = false; l.timer != nil {
		l.timer.Stop()
	}
}

// over reports whether an error of Accept means that the drain has ended the accept loop. During the sweep, a temporary error,
// such as a lack of descriptors, does not end the loop: net/http calls Accept again, and perhaps the queue still holds
// connections.
func (l *listener) over(err error) bool {
	l.mu.Lock()
	limit := l.limit
	l.mu.Unlock()
	if limit.IsZero() {
		return false
	}
	var passing interface{ Temporary() bool }
	return timeout(err) || !errors.As(err, &passing) || !passing.Temporary() || !time.Now().Before(limit)
}

// ending reports whether the drain has begun to end the accept loop.
func (l *listener) ending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.limit.IsZero()
}

func (l *listener) end(limit time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = limit
}

// Close closes the listener below, once. net/http and the drain ignore the error.
func (l *listener) Close() (err error) {
	l.mu.Lock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.closed.Do(func() { err = l.Listener.Close() })
	return err
}

// stop ends the accept loop at once.
func (l *listener) stop() {
	l.end(past)
	l.Close()
}

// sweep makes the accept loop end when the queue is empty. Even if the queue is not empty, the loop ends after sweepLimit. If
// latest is an earlier time, the loop ends at latest.
func (l *listener) sweep(latest time.Time) {
	limit := time.Now().Add(sweepLimit)
	if latest.Before(limit) {
		limit = latest
	}
	l.end(limit)
	l.arm(false)
}

// acceptErr returns the error of Serve for an accept loop that has returned err. If the loop has never called Accept, it failed
// before it served anything, and acceptErr returns an error. Otherwise acceptErr returns nil in two cases: the drain has ended
// the loop, or the listener is closed and ctx has ended. In all other cases acceptErr returns an error that contains err.
func (l *listener) acceptErr(ctx context.Context, err error) error {
	switch {
	case !l.used.Load():
		return fmt.Errorf("drain: %w", err)
	case l.ending(), errors.Is(err, net.ErrClosed) && ctx.Err() != nil:
		return nil
	}
	return fmt.Errorf("drain: accept: %w", err)
}

// listeners are the listeners whose accept loops run.
type listeners struct {
	mu  sync.Mutex
	all map[*listener]struct{}
}

// add adds a listener and returns true. If the drain has begun, add changes nothing and returns false. So no listener comes
// after the drain has listed the listeners.
func (ls *listeners) add(l *listener, c *course) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if c.at() != serving {
		return false
	}
	ls.all[l] = struct{}{}
	return true
}

// remove removes a listener after its accept loop has ended.
func (ls *listeners) remove(l *listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.all, l)
}

func (ls *listeners) list() []*listener {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	all := make([]*listener, 0, len(ls.all))
	for l := range ls.all {
		all = append(all, l)
	}
	return all
}
