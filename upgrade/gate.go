package upgrade

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// gate holds back Accept and ReadFrom while another generation is the one to serve. It is opened and shut by the
// owner; a reader that is inside the system call when it shuts is called back by a deadline.
type gate struct {
	deadline func(time.Time) error

	mu      sync.Mutex
	opened  chan struct{} // closed while the gate is open
	shut    int           // how often it was shut
	program time.Time     // the deadline that the program has set
	changed chan struct{} // closed when that changes

	waiting     chan struct{} // closed when the program has come to the gate for the first time
	waitingOnce sync.Once
	closed      chan struct{}
	closedOnce  sync.Once
}

func newGate(deadline func(time.Time) error) *gate {
	return &gate{
		deadline: deadline, opened: make(chan struct{}), changed: make(chan struct{}),
		waiting: make(chan struct{}), closed: make(chan struct{}),
	}
}

// through runs op whenever the gate is open, until op ends for a reason of its own.
func (g *gate) through(op func() error) error {
	g.waitingOnce.Do(func() { close(g.waiting) })
	for {
		shut, err := g.pass()
		if err != nil {
			return err
		}
		err = op()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !g.shutSince(shut) {
			return err
		}
	}
}

// pass waits until the gate is open, and tells how often it has been shut before. The program's deadline counts here too.
func (g *gate) pass() (shut int, err error) {
	for {
		g.mu.Lock()
		opened, changed, program, shut := g.opened, g.changed, g.program, g.shut
		g.mu.Unlock()
		var late <-chan time.Time
		if !program.IsZero() {
			timer := time.NewTimer(time.Until(program))
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-opened:
			return shut, nil
		case <-g.closed:
			return 0, net.ErrClosed
		case <-late:
			return 0, os.ErrDeadlineExceeded
		case <-changed:
		}
	}
}

func (g *gate) shutSince(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut != n
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.isOpen() {
		_ = g.deadline(g.program)
		close(g.opened)
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen() {
		g.opened = make(chan struct{})
		g.shut++
		_ = g.deadline(time.Unix(1, 0))
	}
}

func (g *gate) isOpen() bool {
	select {
	case <-g.opened:
		return true
	default:
		return false
	}
}

func (g *gate) setDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.program = t
	close(g.changed)
	g.changed = make(chan struct{})
	if !g.isOpen() {
		return nil
	}
	return g.deadline(t)
}
