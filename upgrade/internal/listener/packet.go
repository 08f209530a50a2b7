package listener

import (
	"context"
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

// ListenPacket is listen for datagrams. The socket is pinned: it stays with one process at a time.
func (s *Set) ListenPacket(network, addr string) (net.PacketConn, error) {
	var bare barePacketConn
	ref, err := s.openSocket("packet", network, addr, true, opener{
		inherit: func(key string) (any, error) { return orNil(s.fds.PacketConn(network, key)) },
		create: func() (any, error) {
			return orNil(new(net.ListenConfig).ListenPacket(context.Background(), network, addr))
		},
		adopt: func(sock any, ref *Socket) (c syscall.Conn, ok bool) {
			if bare, ok = sock.(barePacketConn); ok {
				ref.gate, ref.path = newGate(bare.SetReadDeadline), unixPath(bare.LocalAddr())
			}
			return bare, ok
		},
	})
	if err != nil {
		return nil, err
	}
	return &packetConn{barePacketConn: bare, ref: ref}, nil
}
