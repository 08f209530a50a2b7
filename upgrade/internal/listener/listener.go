package listener

import (
	"net"
	"syscall"
	"time"
)

// bareListener is what *net.TCPListener and *net.UnixListener have in common.
type bareListener interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

// listener is the net.Listener that the program gets.
type listener struct {
	bare bareListener
	ref  *Socket
}

// Accept returns a connection of package net, also for one that another process has accepted.
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
		m.Abandon() // there is no way to put what comes first in front of a connection of package net
	}
}

// AcceptMoved is Accept for a server that reads and writes by the methods of what it gets: a connection that another process has
// accepted is a Moved, which may have bytes that are to be read first, and which goes back if this process dies. Package drain looks
// for this method, and imports nothing of this package.
func (l *listener) AcceptMoved() (net.Conn, error) {
	l.ref.ahead.Store(true)
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
		if d := l.ref.set.dispatch.Load(); err != nil || d == nil || l.ref.pinned || !(*d)(l.ref, c) {
			return c, err
		}
	}
}

// Close passes on what has moved here and nobody has accepted: a server that is told to leave does not look again.
func (l *listener) Close() error {
	for _, c := range l.ref.gate.close() {
		if !l.ref.set.moveOn(c) {
			abandon(c)
		}
	}
	err := l.bare.Close()
	l.ref.set.release(l.ref)
	return err
}

func (l *listener) Addr() net.Addr                        { return l.bare.Addr() }
func (l *listener) SetDeadline(t time.Time) error         { return l.ref.gate.setDeadline(t) }
func (l *listener) SyscallConn() (syscall.RawConn, error) { return l.bare.SyscallConn() }
