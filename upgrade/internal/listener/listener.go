package listener

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// Dispatch may pass an accepted connection to another process. It reports whether the other process has the connection now. If
// so, Accept waits for the next connection.
type Dispatch func(r *Socket, c net.Conn) bool

// traffic has the functions that pass connections of the listeners to other processes.
type traffic struct {
	dispatch atomic.Pointer[Dispatch] // passes connections to a candidate; nil: no connections are passed
	moveOn   func(net.Conn) bool      // passes a connection to the process that serves, and reports success
}

// dispatched calls dispatch, unless r is pinned. It reports whether another process has the connection now.
func (t *traffic) dispatched(r *Socket, c net.Conn) bool {
	d := t.dispatch.Load()
	return d != nil && !r.pinned && (*d)(r, c)
}

// listener is the net.Listener that the program gets.
type listener struct {
	bare    bareListener
	ref     *Socket
	traffic *traffic
	release func(*Socket) // removes the socket from the set
}

// Accept returns a connection of package net, even if the connection came from another process.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.accept()
		m, moved := c.(Moved)
		if !moved {
			return c, err
		}
		if plain := m.Plain(); plain != nil {
			return plain, nil
		}
		m.Abandon() // unread bytes came with m, and cannot be put in front of a connection of package net
	}
}

// AcceptMoved is Accept for a server that reads and writes only by the methods of the returned connection. If the connection
// came from another process, AcceptMoved returns a Moved. Read of a Moved first returns the bytes that came with the
// connection. If this process dies, the other process may take the connection back. Package drain finds AcceptMoved by its
// name, and does not import package listener.
func (l *listener) AcceptMoved() (net.Conn, error) {
	l.ref.gate.ahead.Store(true)
	return l.accept()
}

func (l *listener) accept() (c net.Conn, err error) {
	for {
		given, err := l.ref.gate.through(func() error {
			c, err = l.bare.Accept()
			return err
		})
		if given != nil {
			return given, nil
		}
		if t, ok := c.(*net.TCPConn); ok && l.ref.keepAlive != nil {
			l.ref.keepAlive(t)
		}
		if err != nil || !l.traffic.dispatched(l.ref, c) {
			return c, err
		}
	}
}

// Close closes the listener. A connection that was given to the gate, and that the program has not accepted, goes to the
// process that serves: the program will not call Accept again.
func (l *listener) Close() error {
	for _, c := range l.ref.gate.close() {
		if !l.traffic.moveOn(c) {
			abandon(c)
		}
	}
	err := l.bare.Close()
	l.release(l.ref)
	return err
}

func (l *listener) Addr() net.Addr                        { return l.bare.Addr() }
func (l *listener) SetDeadline(t time.Time) error         { return l.ref.gate.setDeadline(t) }
func (l *listener) SyscallConn() (syscall.RawConn, error) { return l.bare.SyscallConn() }
