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

// listener is the net.Listener that the program gets. Its connections are bare ones of package net.
type listener struct {
	bare bareListener
	ref  *Socket
}

func (l *listener) Accept() (c net.Conn, err error) {
	for {
		given, err := l.ref.gate.through(func() error {
			c, err = l.bare.Accept()
			return err
		})
		if given != nil {
			return given, nil
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
