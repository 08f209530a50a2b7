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
	// sweepTime is how long the accept queue has to be empty before a plain stop closes the listener. The deadline has
	// to be in the future: with one in the past an accept does not look into the queue.
	sweepTime = 20 * time.Millisecond
	// sweepLimit bounds all of the sweep, since new connections may go on to come.
	sweepLimit = time.Second
)

// A listener registers the connections of Accept.
type listener struct {
	net.Listener
	accept func() (net.Conn, error)   // Accept of the listener below, or its method for adopted connections
	track  func(nc net.Conn) net.Conn // registers a connection, and returns what the server gets
	used   atomic.Bool                // Accept was called
	closed sync.Once

	mu        sync.Mutex
	accepting bool        // Accept has not returned
	limit     time.Time   // zero while it serves; then Accept may succeed up to here, and its errors are ours
	timer     *time.Timer // ends the sweep of a listener without deadlines
}

var _ net.Listener = (*listener)(nil)

// Accept never drops a connection: net/http serves each, even if the drain has begun meanwhile. A deadline that was set
// during or before Accept says nothing about the queue, so Accept tries once more.
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

// arm gives the Accept of a sweep sweepTime to find a connection, and reports whether there is time for a connection.
// While the accept loop is busy nothing is armed: the time of the loop says nothing about the queue.
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

// over reports whether an error of Accept is the end that the drain wants. An error after which net/http calls Accept
// again, such as the lack of a descriptor, is not the end: the queue may not be empty.
func (l *listener) over(err error) bool {
	if !l.ending() {
		return false
	}
	var passing interface{ Temporary() bool }
	l.mu.Lock()
	defer l.mu.Unlock()
	return timeout(err) || !errors.As(err, &passing) || !passing.Temporary() || !time.Now().Before(l.limit)
}

// ending reports whether the listener was told to stop.
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

// Close closes the listener below. Its error is of no use: net/http ignores it, and so does a drain.
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

// sweep ends the accept loop when the queue is empty, before latest.
func (l *listener) sweep(latest time.Time) {
	limit := time.Now().Add(sweepLimit)
	if latest.Before(limit) {
		limit = latest
	}
	l.end(limit)
	l.arm(false)
}

// acceptErr returns the error of Serve for the end of an accept loop: nil if the drain has stopped the loop, or if the
// listener was closed because the context had ended. A loop that never called Accept could not start.
func (l *listener) acceptErr(ctx context.Context, err error) error {
	switch {
	case !l.used.Load():
		return fmt.Errorf("drain: %w", err)
	case l.ending(), errors.Is(err, net.ErrClosed) && ctx.Err() != nil:
		return nil
	}
	return fmt.Errorf("drain: accept: %w", err)
}

// listeners are the listeners with an accept loop.
type listeners struct {
	mu  sync.Mutex
	all map[*listener]struct{}
}

// add counts a listener in, if the drain has not begun: from then on, list has every listener that was added.
func (ls *listeners) add(l *listener, c *course) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if c.at() != serving {
		return false
	}
	ls.all[l] = struct{}{}
	return true
}

// remove counts a listener out after its accept loop has ended.
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
