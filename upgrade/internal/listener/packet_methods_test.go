//go:build unix

package listener

import (
	"errors"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

// unread has the methods of package net that read nothing from the socket.
var unread = strings.Fields(`Close CloseRead CloseWrite File LocalAddr RemoteAddr SetDeadline SetReadBuffer SetReadDeadline SetWriteBuffer
	SetWriteDeadline SyscallConn Write WriteMsgUDP WriteMsgUDPAddrPort WriteMsgUnix WriteTo WriteToUDP WriteToUDPAddrPort WriteToUnix
	MultipathTCP`)

// packets opens a socket in a process that must not read yet. A datagram waits in the queue of the socket.
func packets(t *testing.T, network, addr string) (*Set, net.PacketConn) {
	t.Helper()
	s, _ := newSet(t, nil)
	c := listenPacket(t, s, network, addr)
	send(t, c, "hello")
	return s, c
}

// The result of ListenPacket has every method of the connection of package net. While another generation serves, the methods
// that read get nothing. If a later version of Go adds a method, this test fails until the method is in the list unread or held
// back.
func TestEveryWayToReadIsHeldBack(t *testing.T) {
	for network, bare := range map[string]any{"udp": (*net.UDPConn)(nil), "unixgram": (*net.UnixConn)(nil)} {
		all := reflect.TypeOf(bare)
		for i := range all.NumMethod() {
			m := all.Method(i)
			addr := "127.0.0.1:0"
			if network == "unixgram" {
				addr = socketPath(t)
			}
			s, c := packets(t, network, addr)
			ours := reflect.ValueOf(c).MethodByName(m.Name)
			if !ours.IsValid() {
				t.Errorf("%s: no method %s", network, m.Name)
				continue
			}
			if ours.Type().NumIn()+1 != m.Type.NumIn() || ours.Type().NumOut() != m.Type.NumOut() {
				t.Errorf("%s: %s is %v, not %v", network, m.Name, ours.Type(), m.Type)
			}
			if slices.Contains(unread, m.Name) {
				continue
			}
			call := func() error {
				var args []reflect.Value
				for i := range ours.Type().NumIn() {
					args = append(args, reflect.MakeSlice(ours.Type().In(i), 100, 100)) // a []byte
				}
				results := ours.Call(args)
				err, _ := results[len(results)-1].Interface().(error)
				if n := results[0].Int(); err == nil && n != int64(len("hello")) {
					t.Errorf("%s: %s has read %d bytes", network, m.Name, n)
				}
				return err
			}
			mustBeHeldBack(t, network+" "+m.Name, s, c, call)
		}
	}
}

// mustBeHeldBack fails the test unless read waits until the gate is open, and returns afterwards.
func mustBeHeldBack(t *testing.T, name string, s *Set, c net.PacketConn, read func() error) {
	t.Helper()
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s reads what is another generation's: %v", name, err)
	}
	s.Open(true)
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := read(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	c.Close()
	if err := read(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%s of a closed socket: %v", name, err)
	}
}

// Reading several datagrams at once by x/net, as QUIC servers do, waits at the gate too. The same holds for Read of a raw
// connection.
func TestBatchesAreHeldBack(t *testing.T) {
	s, c := packets(t, "udp", "127.0.0.1:0")
	batch := []ipv4.Message{{Buffers: [][]byte{make([]byte, 100)}}, {Buffers: [][]byte{make([]byte, 100)}}}
	mustBeHeldBack(t, "ReadBatch", s, c, func() error {
		n, err := ipv4.NewPacketConn(c).ReadBatch(batch, 0)
		if err == nil && (n != 1 || string(batch[0].Buffers[0][:batch[0].N]) != "hello") {
			t.Errorf("%d datagrams", n)
		}
		return err
	})
	s, c = packets(t, "unixgram", socketPath(t))
	raw, err := c.(*unixgramConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	mustBeHeldBack(t, "raw Read", s, c, func() error { return raw.Read(func(uintptr) bool { return true }) })
}

// A server at the wildcard address can answer from the address to which the client has sent: the methods pass the packet info
// on.
func TestAnswerComesFromTheAddressThatWasAsked(t *testing.T) {
	s, _ := newSet(t, nil)
	c := listenPacket(t, s, "udp4", "0.0.0.0:0")
	s.Open(true)
	p := ipv4.NewPacketConn(c)
	if err := p.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true); err != nil {
		t.Fatal(err)
	}
	client, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: c.LocalAddr().(*net.UDPAddr).Port})
	if err != nil {
		t.Skip("NOT RUN: there is no 127.0.0.2 here: ", err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("where")); err != nil {
		t.Fatal(err)
	}
	b, oob, info := make([]byte, 100), ipv4.NewControlMessage(ipv4.FlagDst|ipv4.FlagInterface), new(ipv4.ControlMessage)
	n, size, _, from, err := c.(*udpConn).ReadMsgUDP(b, oob)
	if err != nil || info.Parse(oob[:size]) != nil {
		t.Fatal(err)
	}
	answer := []ipv4.Message{{Buffers: [][]byte{b[:n]}, OOB: (&ipv4.ControlMessage{Src: info.Dst}).Marshal(), Addr: from}}
	if n, err := p.WriteBatch(answer, 0); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if err := client.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(b); err != nil || string(b[:n]) != "where" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// CloseRead ends the reading in this process only, if another process has the socket too.
func TestCloseReadLeavesTheSocketOpen(t *testing.T) {
	path := socketPath(t)
	old, _ := newSet(t, nil)
	here := listenPacket(t, old, "unixgram", path)
	old.Open(true)
	next, _ := newSet(t, old)
	there := listenPacket(t, next, "unixgram", path)
	next.Open(true)
	if err := here.(*unixgramConn).CloseRead(); err != nil {
		t.Error(err)
	}
	if err := here.(*unixgramConn).CloseWrite(); err == nil {
		t.Error("CloseWrite has no error")
	}
	if err := here.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := here.ReadFrom(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it reads on: %v", err)
	}
	send(t, there, "hello")
	if got := receive(t, there); got != "hello" {
		t.Errorf("%q", got)
	}
}

// Reading methods that do not return an address on the heap allocate nothing, as in package net.
func TestReadingDatagramsAllocatesNothing(t *testing.T) {
	s, c := packets(t, "udp", "127.0.0.1:0")
	s.Open(true)
	u, to := c.(*udpConn), c.LocalAddr().(*net.UDPAddr).AddrPort()
	b, oob := make([]byte, 100), make([]byte, 100)
	receive(t, c)
	if n := testing.AllocsPerRun(100, func() {
		for range 2 {
			if _, err := u.WriteToUDPAddrPort(b[:5], to); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := u.ReadFromUDPAddrPort(b)
		if _, _, _, _, err2 := u.ReadMsgUDPAddrPort(b, oob); err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
