package listener

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// gateState is what a gate lets through to the program. gate.md draws the states.
type gateState uint8

const (
	gateShut   gateState = iota // connections that are given
	gateOpen                    // what comes through the socket too
	gateEnded                   // what is given, and then net.ErrClosed; the socket stays open
	gateClosed                  // net.ErrClosed, and nothing can be given
)

// gateEvent is what happens to a gate.
type gateEvent uint8

const (
	eventOpen  gateEvent = iota // this process serves
	eventShut                   // another process serves
	eventEnd                    // the program is to stop reading
	eventClose                  // the program has closed the socket
)

// gateAction is what a gate does on the way to its next state.
type gateAction uint8

const (
	doNothing gateAction = iota
	doAdmit              // give the socket the program's deadline back, and let readers in
	doRecall             // call readers back that are inside the system call
	doGiveUp             // give up the connections that no reader has accepted
)

// gateStep is a cell of the table of a gate.
type gateStep struct {
	do   gateAction
	next gateState
}

// gateTable has the step for each state and event.
var gateTable = [...][4]gateStep{
	// at eventOpen, eventShut, eventEnd and eventClose:
	gateShut:   {{doAdmit, gateOpen}, {doNothing, gateShut}, {doRecall, gateEnded}, {doGiveUp, gateClosed}},
	gateOpen:   {{doNothing, gateOpen}, {doRecall, gateShut}, {doRecall, gateEnded}, {doGiveUp, gateClosed}},
	gateEnded:  {{doNothing, gateEnded}, {doNothing, gateEnded}, {doNothing, gateEnded}, {doGiveUp, gateClosed}},
	gateClosed: {{doNothing, gateClosed}, {doNothing, gateClosed}, {doNothing, gateClosed}, {doNothing, gateClosed}},
}

var (
	gateStates  = [...]string{gateShut: "shut", gateOpen: "open", gateEnded: "ended", gateClosed: "closed"}
	gateEvents  = [...]string{eventOpen: "open", eventShut: "shut", eventEnd: "end", eventClose: "close"}
	gateActions = [...]string{doNothing: "", doAdmit: "admit readers", doRecall: "recall readers", doGiveUp: "give up what was given"}
)

func (s gateState) String() string  { return gateStates[s] }
func (e gateEvent) String() string  { return gateEvents[e] }
func (a gateAction) String() string { return gateActions[a] }

// gate holds back Accept and ReadFrom while another generation serves. The owner opens and shuts the gate; a reader that is inside the
// system call when the gate shuts is called back by a deadline.
type gate struct {
	deadline func(time.Time) error

	arrived chan struct{} // has room for one: something was given

	mu      sync.Mutex
	state   gateState
	changed chan struct{} // closed when the state or the program's deadline changes
	given   []net.Conn    // connections that did not come through the socket: the next Accept gets them
	calls   int           // how often a reader was called back from the socket
	called  bool          // the socket has the deadline that calls back, and not the program's
	program time.Time     // the deadline that the program has set

	ahead       atomic.Bool   // the program reads first what came along with a connection: it calls AcceptMoved
	waiting     chan struct{} // closed when the program has come to the gate for the first time
	waitingOnce sync.Once
	closed      chan struct{} // closed with the state gateClosed
}

func newGate(deadline func(time.Time) error) *gate {
	return &gate{
		deadline: deadline, arrived: make(chan struct{}, 1), changed: make(chan struct{}),
		waiting: make(chan struct{}), closed: make(chan struct{}),
	}
}

func (g *gate) open()                    { g.handle(eventOpen) }
func (g *gate) shut()                    { g.handle(eventShut) }
func (g *gate) end()                     { g.handle(eventEnd) }
func (g *gate) close() (left []net.Conn) { return g.handle(eventClose) }

// handle takes a step of the table, and returns the connections that are given up.
func (g *gate) handle(e gateEvent) (left []net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	step := gateTable[g.state][e]
	if step.next != g.state {
		g.state = step.next
		g.signal()
	}
	switch step.do {
	case doAdmit:
		if len(g.given) == 0 { // otherwise a reader in the system call, called back a moment ago, may not have woken up yet
			g.called = false
			_ = g.deadline(g.program)
		}
	case doRecall:
		g.callBack()
	case doGiveUp:
		close(g.closed)
		left, g.given = g.given, nil
	}
	return left
}

// signal wakes the readers at the gate. The lock is held.
func (g *gate) signal() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// through runs op whenever the gate is open, until op ends for a reason of its own. A given connection comes first, and is
// returned instead.
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

// pass waits until the gate is open or a connection is given, and returns how often readers have been called back before.
// The program's deadline counts here too, and the end of the gate.
func (g *gate) pass() (calls int, c net.Conn, err error) {
	for {
		l := g.look()
		switch {
		case l.given != nil || l.state == gateOpen:
			return l.calls, l.given, nil
		case l.state != gateShut:
			return 0, nil, net.ErrClosed
		}
		var late <-chan time.Time
		if !l.program.IsZero() {
			timer := time.NewTimer(time.Until(l.program))
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-l.changed: // something may have been given before: look again
		case <-g.arrived:
		case <-late:
			return 0, nil, os.ErrDeadlineExceeded
		}
	}
}

// look is what a reader finds at a gate at one moment. A connection that is given afterwards calls the reader back.
type look struct {
	state   gateState
	changed chan struct{}
	program time.Time
	calls   int
	given   net.Conn
}

func (g *gate) look() look {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.called && g.state == gateOpen {
		g.called = false
		_ = g.deadline(g.program)
	}
	l := look{g.state, g.changed, g.program, g.calls, nil}
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

// give hands a connection to the next Accept, and reports whether the gate takes connections.
func (g *gate) give(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == gateClosed {
		return false
	}
	g.given = append(g.given, c)
	g.ring()
	g.callBack()
	return true
}

// callBack makes a reader that is inside the system call look at the gate again. The lock is held.
func (g *gate) callBack() {
	g.calls++
	g.called = true
	_ = g.deadline(time.Unix(1, 0))
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state == gateOpen
}

func (g *gate) setDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.program = t
	g.signal()
	if g.state == gateShut || g.state == gateEnded || g.state == gateOpen && g.called { // look sets the deadline
		return nil
	}
	return g.deadline(t)
}
