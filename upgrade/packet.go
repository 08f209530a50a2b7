package upgrade

import (
	"context"
	"fmt"
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
	ref *socketRef
}

func (c *packetConn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	err = c.ref.gate.through(func() error {
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
	c.ref.gate.closedOnce.Do(func() { close(c.ref.gate.closed) })
	err := c.barePacketConn.Close()
	c.ref.set.release(c.ref)
	return err
}

// listenPacket is listen for datagrams. The socket is pinned: it stays with one process at a time.
func (s *listeners) listenPacket(network, addr string) (net.PacketConn, error) {
	key := s.key(network, addr, false)
	var pc net.PacketConn
	var err error
	if s.supported() {
		if pc, err = s.tf.Fds.PacketConn(network, key); err != nil {
			return nil, fmt.Errorf("upgrade: inherit %s %s: %w", network, addr, err)
		}
	}
	if pc == nil {
		if pc, err = new(net.ListenConfig).ListenPacket(context.Background(), network, addr); err != nil {
			return nil, fmt.Errorf("upgrade: listen %s %s: %w", network, addr, err)
		}
	}
	bare, ok := pc.(barePacketConn)
	if !ok {
		pc.Close()
		return nil, fmt.Errorf("upgrade: listen %s %s: a %T cannot be handed on", network, addr, pc)
	}
	ref := &socketRef{set: s, kind: "packet", network: network, addr: key, pinned: true, gate: newGate(bare.SetReadDeadline)}
	if ua, ok := pc.LocalAddr().(*net.UnixAddr); ok {
		ref.path = ua.Name
	}
	if err := s.add(ref, bare); err != nil {
		pc.Close()
		return nil, err
	}
	return &packetConn{barePacketConn: bare, ref: ref}, nil
}
