package listener

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

	arrived chan struct{} // has room for one: something was given

	mu      sync.Mutex
	given   []net.Conn    // connections that did not come through the socket: the next Accept gets them
	over    bool          // closed: nothing is given any more
	ended   bool          // what was given may still be accepted, and nothing else
	opened  chan struct{} // closed while the gate is open
	calls   int           // how often a reader was called back from the socket
	called  bool          // its deadline is the one that calls back, and not the program's
	program time.Time     // the deadline that the program has set
	changed chan struct{} // closed when that changes

	waiting     chan struct{} // closed when the program has come to the gate for the first time
	waitingOnce sync.Once
	closed      chan struct{}
	closedOnce  sync.Once
}

func newGate(deadline func(time.Time) error) *gate {
	return &gate{
		deadline: deadline, arrived: make(chan struct{}, 1), opened: make(chan struct{}), changed: make(chan struct{}),
		waiting: make(chan struct{}), closed: make(chan struct{}),
	}
}

// through runs op whenever the gate is open, until op ends for a reason of its own. It returns a connection instead if
// one was given.
func (g *gate) through(op func() error) (net.Conn, error) {
	g.waitingOnce.Do(func() { close(g.waiting) })
	for {
		calls, c, err := g.pass()
		if c != nil || err != nil {
			return c, err
		}
		err = op()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !g.calledSince(calls) {
			return nil, err
		}
	}
}

// pass waits until the gate is open or a connection is given, and tells how often readers have been called back before.
// The program's deadline counts here too, and the end of the gate.
func (g *gate) pass() (calls int, c net.Conn, err error) {
	for {
		l := g.look()
		if l.given != nil || l.open {
			return l.calls, l.given, nil
		}
		if l.ended {
			return 0, nil, net.ErrClosed
		}
		var late <-chan time.Time
		if !l.program.IsZero() {
			timer := time.NewTimer(time.Until(l.program))
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-l.opened: // something may have been given before: look again
		case <-g.arrived:
		case <-g.closed:
			return 0, nil, net.ErrClosed
		case <-late:
			return 0, nil, os.ErrDeadlineExceeded
		case <-l.changed:
		}
	}
}

// look is the state of a gate at one moment. What is given after it calls back.
type look struct {
	open, ended     bool
	opened, changed chan struct{}
	program         time.Time
	calls           int
	given           net.Conn
}

func (g *gate) look() look {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.called && g.isOpen() && !g.ended {
		g.called = false
		_ = g.deadline(g.program)
	}
	l := look{g.isOpen() && !g.ended, g.ended, g.opened, g.changed, g.program, g.calls, nil}
	if len(g.given) > 0 {
		l.given, g.given = g.given[0], g.given[1:]
	}
	if len(g.given) > 0 {
		g.ring() // for another reader
	}
	return l
}

func (g *gate) ring() {
	select {
	case g.arrived <- struct{}{}:
	default:
	}
}

func (g *gate) calledSince(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls != n
}

// give hands a connection to the next Accept, and tells whether it could.
func (g *gate) give(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return false
	}
	g.given = append(g.given, c)
	g.ring()
	g.callBack()
	return true
}

// callBack makes a reader that is inside the system call look here again.
func (g *gate) callBack() {
	g.calls++
	g.called = true
	_ = g.deadline(time.Unix(1, 0))
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.isOpen() {
		close(g.opened)
		if len(g.given) == 0 { // otherwise a reader in the system call, called back a moment ago, may not have woken up yet
			g.called = false
			_ = g.deadline(g.program)
		}
	}
}

// shut closes the gate.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen() {
		g.opened = make(chan struct{})
		g.callBack()
	}
}

// end makes readers that wait here or in the system call return net.ErrClosed, now and from now on. The socket stays open.
func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	if !g.isOpen() {
		close(g.opened) // whoever waits looks again
	}
	g.callBack()
}

// close ends the gate with its socket, and returns the connections that were given and not accepted.
func (g *gate) close() (left []net.Conn) {
	g.closedOnce.Do(func() { close(g.closed) })
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	left, g.given = g.given, nil
	return left
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
	if !g.isOpen() || g.called { // look sets it
		return nil
	}
	return g.deadline(t)
}
