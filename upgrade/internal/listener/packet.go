package listener

import (
	"net"
	"syscall"
	"time"
)

// barePacketConn is what the packet connections of package net have in common.
type barePacketConn interface {
	net.PacketConn
	syscall.Conn
}

// packetConn is the net.PacketConn that the program gets. Two processes that read the same socket would split its
// datagrams at random, so a candidate's ReadFrom waits until it has taken over.
type packetConn struct {
	barePacketConn
	ref *Socket
}

func (c *packetConn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	_, err = c.ref.gate.through(func() error {
		n, addr, err = c.barePacketConn.ReadFrom(b)
		return err
	})
	return n, addr, err
}

func (c *packetConn) SetReadDeadline(t time.Time) error { return c.ref.gate.setDeadline(t) }

func (c *packetConn) SetDeadline(t time.Time) error {
	if err := c.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

func (c *packetConn) Close() error {
	c.ref.gate.close()
	err := c.barePacketConn.Close()
	c.ref.set.release(c.ref)
	return err
}
