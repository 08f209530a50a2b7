package listener

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// gateState is the state of a gate. The state decides what the callers of Accept and ReadFrom (the readers) get. A given
// connection does not come from the socket, but from a call of give. gate.md has a diagram of the states.
type gateState uint8

const (
	gateShut   gateState = iota // readers get given connections only
	gateOpen                    // readers get given connections, and what comes from the socket
	gateEnded                   // readers get given connections, and then net.ErrClosed; the socket stays open
	gateClosed                  // readers get net.ErrClosed; give returns false
)

// gateEvent is an event that may change the state of a gate.
type gateEvent uint8

const (
	eventOpen  gateEvent = iota // readers may read from the socket from now on
	eventShut                   // readers must not read from the socket, for example because another process serves
	eventEnd                    // readers should stop, see sockets.End
	eventClose                  // the program has closed the socket
)

// gateAction is what a gate does at an event.
type gateAction uint8

const (
	doNothing gateAction = iota
	doAdmit              // set the deadline of the program on the socket, so that readers can enter the system call
	doRecall             // make readers return from the system call
	doGiveUp             // make handle return the given connections that no reader has got
)

// gateStep is an entry of gateTable.
type gateStep struct {
	do   gateAction
	next gateState
}

// gateTable has the action and the next state for each pair of a state and an event.
var gateTable = [...][4]gateStep{
	// The columns are eventOpen, eventShut, eventEnd and eventClose.
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

// gate makes Accept and ReadFrom wait, for example while another generation serves. The owner opens and shuts the gate. When
// the gate shuts, a deadline in the past makes readers return from the system call.
type gate struct {
	deadline func(time.Time) error // sets the read deadline of the socket

	arrived chan struct{} // ring sends to this channel, to wake a reader in pass; it has room for one element

	mu      sync.Mutex
	state   gateState
	changed chan struct{} // closed when the state or the program's deadline changes; nil: no reader waits for that
	given   []net.Conn    // the connections that give was called with, for the next calls of Accept
	calls   int           // the number of calls of callBack
	called  bool          // the socket has the deadline that callBack has set, and not the deadline of the program
	program time.Time     // the deadline that the program has set

	ahead       atomic.Bool   // the program has called AcceptMoved, so connections may come with bytes
	waiting     chan struct{} // closed when the program calls Accept or a reading method for the first time
	waitingOnce sync.Once
	closed      chan struct{} // closed when the state becomes gateClosed
}

func newGate(deadline func(time.Time) error) *gate {
	return &gate{
		deadline: deadline, arrived: make(chan struct{}, 1),
		waiting: make(chan struct{}), closed: make(chan struct{}),
	}
}

func (g *gate) open()                    { g.handle(eventOpen) }
func (g *gate) shut()                    { g.handle(eventShut) }
func (g *gate) end()                     { g.handle(eventEnd) }
func (g *gate) close() (left []net.Conn) { return g.handle(eventClose) }

// handle makes the step that gateTable has for an event. If the step closes the gate, left has the given connections that no
// reader has got.
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
		if len(g.given) == 0 { // otherwise the deadline of callBack stays, so that readers take the given connections
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

// signal wakes the readers that wait at the gate. The caller holds the lock.
func (g *gate) signal() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// through waits until the gate is open, and calls op, which reads from the socket. If callBack interrupts op, through waits at
// the gate again. If a connection is given, through returns the connection and does not call op.
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

// pass waits until the gate is open or a connection is given. It returns the given connection, or nil, and the value that
// g.calls had at that moment. pass fails if the deadline of the program has passed. It also fails if no connection is given and
// the gate is ended or closed.
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
		case <-l.changed: // the state or the program's deadline has changed
		case <-g.arrived:
		case <-late:
			return 0, nil, os.ErrDeadlineExceeded
		}
	}
}

// look is what a reader finds at a gate at one moment. If a connection is given later, callBack makes the reader look again.
type look struct {
	state   gateState
	changed chan struct{}
	program time.Time
	calls   int
	given   net.Conn
}

// look returns the state of the gate, and takes one given connection out of the gate, if there is one.
func (g *gate) look() look {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.called && g.state == gateOpen {
		g.called = false
		_ = g.deadline(g.program)
	}
	if g.changed == nil && g.state == gateShut {
		g.changed = make(chan struct{})
	}
	l := look{g.state, g.changed, g.program, g.calls, nil}
	if len(g.given) > 0 {
		l.given, g.given = g.given[0], g.given[1:]
	}
	if len(g.given) > 0 {
		g.ring() // wake another reader, for the next given connection
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

// give gives a connection to the next call of Accept. It returns false if the gate is closed.
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

// callBack sets a deadline in the past on the socket, so that readers return from the system call and look at the gate again.
// The caller holds the lock.
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
	if g.state == gateShut || g.state == gateEnded || g.state == gateOpen && g.called {
		return nil // handle or look sets the deadline when readers may enter the system call again
	}
	return g.deadline(t)
}
