package listener

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// packetConn is the net.PacketConn that the program gets, or a part of that connection (see udpConn and unixgramConn). If two
// processes read from the same socket, each process gets a random part of the datagrams. So in a candidate every method that
// reads waits until the commit.
type packetConn struct {
	barePacketConn
	ref     *Socket
	release func(*Socket) // removes the socket from the set
}

// newPacketConn returns a connection that has the same methods as the connection of package net in bare.
func newPacketConn(bare barePacketConn, ref *Socket, release func(*Socket)) net.PacketConn {
	c := packetConn{bare, ref, release}
	switch bare := bare.(type) {
	case *net.UDPConn:
		return &udpConn{UDPConn: bare, packetConn: c}
	case *net.UnixConn:
		return &unixgramConn{UnixConn: bare, packetConn: c}
	}
	return &c
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
	c.release(c.ref)
	return err
}

// SyscallConn returns a raw connection. Its Read waits at the gate, because the packages of x/net call Read to receive several
// datagrams at once. Its Control does not wait.
func (c *packetConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.barePacketConn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return gatedRaw{raw, c.ref.gate}, nil
}

type gatedRaw struct {
	syscall.RawConn
	gate *gate
}

func (r gatedRaw) Read(f func(fd uintptr) (done bool)) error {
	_, err := r.gate.through(func() error { return r.RawConn.Read(f) })
	return err
}

// udpConn has all methods of *net.UDPConn. Methods that read wait at the gate.
type udpConn struct {
	*net.UDPConn
	packetConn
}

func (c *udpConn) Close() error                              { return c.packetConn.Close() }
func (c *udpConn) LocalAddr() net.Addr                       { return c.UDPConn.LocalAddr() }
func (c *udpConn) SetDeadline(t time.Time) error             { return c.packetConn.SetDeadline(t) }
func (c *udpConn) SetReadDeadline(t time.Time) error         { return c.packetConn.SetReadDeadline(t) }
func (c *udpConn) SetWriteDeadline(t time.Time) error        { return c.UDPConn.SetWriteDeadline(t) }
func (c *udpConn) SyscallConn() (syscall.RawConn, error)     { return c.packetConn.SyscallConn() }
func (c *udpConn) WriteTo(b []byte, a net.Addr) (int, error) { return c.UDPConn.WriteTo(b, a) }
func (c *udpConn) ReadFrom(b []byte) (int, net.Addr, error)  { return c.packetConn.ReadFrom(b) }

func (c *udpConn) Read(b []byte) (n int, err error) {
	_, err = c.ref.gate.through(func() error {
		n, err = c.UDPConn.Read(b)
		return err
	})
	return n, err
}

func (c *udpConn) ReadFromUDP(b []byte) (n int, addr *net.UDPAddr, err error) {
	_, err = c.ref.gate.through(func() error {
		n, addr, err = c.UDPConn.ReadFromUDP(b)
		return err
	})
	return n, addr, err
}

func (c *udpConn) ReadFromUDPAddrPort(b []byte) (n int, addr netip.AddrPort, err error) {
	_, err = c.ref.gate.through(func() error {
		n, addr, err = c.UDPConn.ReadFromUDPAddrPort(b)
		return err
	})
	return n, addr, err
}

func (c *udpConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	_, err = c.ref.gate.through(func() error {
		n, oobn, flags, addr, err = c.UDPConn.ReadMsgUDP(b, oob)
		return err
	})
	return n, oobn, flags, addr, err
}

func (c *udpConn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	_, err = c.ref.gate.through(func() error {
		n, oobn, flags, addr, err = c.UDPConn.ReadMsgUDPAddrPort(b, oob)
		return err
	})
	return n, oobn, flags, addr, err
}

// unixgramConn has all methods of *net.UnixConn. Methods that read wait at the gate.
type unixgramConn struct {
	*net.UnixConn
	packetConn
}

func (c *unixgramConn) Close() error                              { return c.packetConn.Close() }
func (c *unixgramConn) LocalAddr() net.Addr                       { return c.UnixConn.LocalAddr() }
func (c *unixgramConn) SetDeadline(t time.Time) error             { return c.packetConn.SetDeadline(t) }
func (c *unixgramConn) SetReadDeadline(t time.Time) error         { return c.packetConn.SetReadDeadline(t) }
func (c *unixgramConn) SetWriteDeadline(t time.Time) error        { return c.UnixConn.SetWriteDeadline(t) }
func (c *unixgramConn) SyscallConn() (syscall.RawConn, error)     { return c.packetConn.SyscallConn() }
func (c *unixgramConn) WriteTo(b []byte, a net.Addr) (int, error) { return c.UnixConn.WriteTo(b, a) }
func (c *unixgramConn) ReadFrom(b []byte) (int, net.Addr, error)  { return c.packetConn.ReadFrom(b) }

func (c *unixgramConn) Read(b []byte) (n int, err error) {
	_, err = c.ref.gate.through(func() error {
		n, err = c.UnixConn.Read(b)
		return err
	})
	return n, err
}

func (c *unixgramConn) ReadFromUnix(b []byte) (n int, addr *net.UnixAddr, err error) {
	_, err = c.ref.gate.through(func() error {
		n, addr, err = c.UnixConn.ReadFromUnix(b)
		return err
	})
	return n, addr, err
}

func (c *unixgramConn) ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error) {
	_, err = c.ref.gate.through(func() error {
		n, oobn, flags, addr, err = c.UnixConn.ReadMsgUnix(b, oob)
		return err
	})
	return n, oobn, flags, addr, err
}

// CloseRead ends the reading in this process. It does not call shutdown(2), because shutdown(2) would also end the reading in
// other processes that have the socket.
func (c *unixgramConn) CloseRead() error {
	c.ref.gate.end()
	return nil
}

// CloseWrite returns an error, because the kernel cannot end the writing for one process only.
func (c *unixgramConn) CloseWrite() error {
	return &net.OpError{Op: "close", Net: "unixgram", Source: c.LocalAddr(), Err: errShared}
}

var errShared = errors.New("the socket may be another process's as well, and its writes would fail: close it")
