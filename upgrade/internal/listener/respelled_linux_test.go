package listener

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
	"golang.org/x/sys/unix"
)

// respelled opens an address in an older generation and in the next one another one, in which {} is the port of the first.
func respelled(t *testing.T, network, addr, network2, addr2 string) (old, next *Set, first, second net.Listener, err error) {
	t.Helper()
	old, _ = newSet(t, nil)
	first = listen(t, old, network, addr, false)
	old.Open(true)
	next, _ = newSet(t, nil)
	handOn(t, old, next)
	second, err = next.Listen(network2, strings.ReplaceAll(addr2, "{}", fmt.Sprint(first.Addr().(*net.TCPAddr).Port)), false)
	if err == nil {
		t.Cleanup(func() { second.Close() })
	}
	return old, next, first, second, err
}

// identity is which socket a listener is.
func identity(t *testing.T, ln net.Listener) uint64 {
	t.Helper()
	raw, err := ln.(*listener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	inode, err := inodeOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	return inode
}

// The socket of an older generation is taken over if the new version spells its address in another way, and connections that the older
// one names by the old name come out of it.
func TestSameSocketIsTakenUnderItsNewName(t *testing.T) {
	for _, c := range []struct{ network, addr, network2, addr2 string }{
		{"tcp", "localhost:0", "tcp", "127.0.0.1:{}"},
		{"tcp", "127.0.0.1:0", "tcp", "localhost:{}"},
		{"tcp", "127.0.0.1:0", "tcp4", "127.0.0.1:{}"},
		{"tcp", "[::1]:0", "tcp6", "[0:0::1]:{}"},
		{"tcp", ":0", "tcp", "0.0.0.0:{}"},
		{"tcp", "0.0.0.0:0", "tcp", "[::]:{}"},
		{"tcp4", ":0", "tcp4", "0.0.0.0:{}"},
	} {
		old, next, first, second, err := respelled(t, c.network, c.addr, c.network2, c.addr2)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		if identity(t, first) != identity(t, second) {
			t.Errorf("%v: another socket: %v", c, second.Addr())
		}
		if missing := next.Missing(nil); len(missing) > 0 {
			t.Errorf("%v: missing: %v", c, missing)
		}
		name := old.Refs()[0].socketName()
		if r, err := next.Find(name.Network, name.Addr); err != nil || r != second.(*listener).ref {
			t.Errorf("%v: %v comes out of %v, %v", c, name, r, err)
		}
		takes := next.Takes()
		if len(takes.Listeners) != 2 || takes.Listeners[1] != name {
			t.Errorf("%v: takes %v", c, takes)
		}
		if !second.(*listener).ref.own || second.(*listener).ref.fresh {
			t.Errorf("%v: %+v", c, second.(*listener).ref)
		}
	}
}

// Another path to the same file is the same socket, and datagrams have no names of their own either.
func TestSamePathAndPortAreTaken(t *testing.T) {
	path := socketPath(t)
	old, _ := newSet(t, nil)
	first := listen(t, old, "unix", path, false)
	packets := listenPacket(t, old, "udp", "localhost:0")
	next, _ := newSet(t, nil)
	r := handOn(t, old, next)
	second := listen(t, next, "unix", filepath.Dir(path)+"/./"+filepath.Base(path), false)
	if identity(t, first) != identity(t, second) || r.Len() != 1 {
		t.Errorf("another socket, and %d are left", r.Len())
	}
	port := packets.LocalAddr().(*net.UDPAddr).Port
	if listenPacket(t, next, "udp", fmt.Sprint("127.0.0.1:", port)); r.Len() != 0 {
		t.Error("another socket for datagrams")
	}
}

// A wildcard in the place of an address loses nobody: until the commit the old process has the clients, then those in the queue come out
// of the new listener, and new ones as well, while the old process still has its descriptor.
func TestWildcardTakesTheClientsOfAnAddress(t *testing.T) {
	for _, c := range []struct{ network, addr, network2, addr2 string }{
		{"tcp", "127.0.0.1:0", "tcp", "0.0.0.0:{}"},
		{"tcp", "127.0.0.1:0", "tcp4", ":{}"},
		{"tcp4", "0.0.0.0:0", "tcp", ":{}"},
		{"tcp", "[::1]:0", "tcp", ":{}"},
		{"tcp", "[::1]:0", "tcp6", "[::]:{}"},
	} {
		old, next, first, second, err := respelled(t, c.network, c.addr, c.network2, c.addr2)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		if missing := next.Missing(nil); len(missing) > 0 {
			t.Errorf("%v: missing: %v", c, missing)
		}
		next.Open(true)
		dial(t, first)
		accept(t, first)
		old.Pause(true)
		var clients []net.Conn
		for range 10 {
			clients = append(clients, dial(t, first))
		}
		next.DropRest()
		for range 10 {
			clients = append(clients, dial(t, first))
		}
		for range clients {
			fmt.Fprint(accept(t, second), "+")
		}
		for i, client := range clients {
			if b, err := io.ReadAll(io.LimitReader(client, 1)); err != nil || string(b) != "+" {
				t.Errorf("%v: client %d: %q, %v", c, i, b, err)
			}
		}
		name := old.Refs()[0].socketName()
		if r, err := next.Find(name.Network, name.Addr); err != nil || r != second.(*listener).ref {
			t.Errorf("%v: %v comes out of %v, %v", c, name, r, err)
		}
		raw, err := second.(*listener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if left := socketOption(t, raw, unix.SO_REUSEPORT); left != 0 {
			t.Errorf("%v: others of this user can bind the port", c)
		}
	}
}

func socketOption(t *testing.T, raw syscall.RawConn, option int) (v int) {
	t.Helper()
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { v, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option) }), failed); err != nil {
		t.Fatal(err)
	}
	return v
}

// An address in the place of a wildcard takes no client from the old process before the commit, and loses none of those who connect to
// it then. Clients of other addresses are refused.
func TestAddressInPlaceOfAWildcard(t *testing.T) {
	for _, c := range []struct{ network, addr, network2, addr2 string }{
		{"tcp", ":0", "tcp", "127.0.0.1:{}"},
		{"tcp4", ":0", "tcp", "localhost:{}"},
		{"tcp", ":0", "tcp6", "[::1]:{}"},
	} {
		old, next, first, second, err := respelled(t, c.network, c.addr, c.network2, c.addr2)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		if n := len(next.Missing(nil)); n != 1 {
			t.Errorf("%v: %d missing", c, n)
		}
		next.Open(false) // as in a soak
		dial(t, second)
		accept(t, first)
		old.Pause(true)
		var clients []net.Conn
		for range 10 {
			clients = append(clients, dial(t, second))
		}
		next.Open(true)
		for range 10 {
			clients = append(clients, dial(t, second))
		}
		next.DropRest()
		for range 10 {
			clients = append(clients, dial(t, second))
		}
		for range clients {
			fmt.Fprint(accept(t, second), "+")
		}
		for i, client := range clients {
			if b, err := io.ReadAll(io.LimitReader(client, 1)); err != nil || string(b) != "+" {
				t.Errorf("%v: client %d: %q, %v", c, i, b, err)
			}
		}
	}
}

// An address that is in use by somebody else is refused as before.
func TestAddressOfSomebodyElseIsRefused(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, next, _, _, err := respelled(t, "tcp", "[::1]:0", "tcp", fmt.Sprint(":", other.Addr().(*net.TCPAddr).Port))
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	if n := len(next.Missing(nil)); n != 1 {
		t.Errorf("%d missing", n)
	}
}

// A queue that is emptied ends with the set, and a socket of a service manager keeps its device.
func TestSocketsOfAManagerAreNotDetached(t *testing.T) {
	old, _ := newSet(t, nil)
	first := listen(t, old, "tcp", "127.0.0.1:0", false)
	old.Refs()[0].own = false
	next, _ := newSet(t, nil)
	handOn(t, old, next)
	listen(t, next, "tcp", fmt.Sprint(":", first.Addr().(*net.TCPAddr).Port), false)
	next.Open(true)
	next.DropRest()
	raw, err := first.(*listener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if got := socketOption(t, raw, unix.SO_BINDTOIFINDEX); got != 0 {
		t.Errorf("it is bound to device %d", got)
	}
}

// Two listeners that share an address have names of their own.
func TestSharedAddressHasTwoNames(t *testing.T) {
	share := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { setReusePort(int(fd), true) })
	}}
	old, _ := newSet(t, nil)
	old.Configure(share)
	first := listen(t, old, "tcp", "127.0.0.1:0", false)
	second := listen(t, old, "tcp", first.Addr().String(), false)
	third := listen(t, old, "tcp", first.Addr().String(), false)
	next, _ := newSet(t, nil)
	next.Configure(share)
	handOn(t, old, next)
	for i, want := range []net.Listener{second, third} {
		if got := listen(t, next, "tcp", first.Addr().String(), false); identity(t, got) != identity(t, want) {
			t.Errorf("%d: another socket", i)
		}
	}
	if names := fmt.Sprint(next.Missing(nil)); !strings.Contains(names, "127.0.0.1:0") && names != "[]" {
		t.Error(names)
	}
	name := wire.SocketName{Kind: "listener", Network: "tcp", Addr: first.Addr().String() + "#2"}
	if !(Missing{SocketName: name}).Is(first.Addr().String()) {
		t.Error("MayClose does not mean the second one")
	}
}

// What a listener that has come from elsewhere accepts has the keep-alive of the configuration, as one that was opened here.
func TestConnectionsHaveTheKeepAliveOfTheConfiguration(t *testing.T) {
	control := func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77)
		})
	}
	for _, config := range []net.ListenConfig{
		{}, {KeepAlive: -1}, {KeepAlive: -1, Control: control}, {KeepAlive: 7 * time.Second},
		{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 9 * time.Second, Interval: 8 * time.Second, Count: 7}},
	} {
		old, _ := newSet(t, nil)
		old.Configure(config)
		first := listen(t, old, "tcp", "127.0.0.1:0", false)
		old.Open(true)
		next, _ := newSet(t, nil)
		next.Configure(config)
		handOn(t, old, next)
		second := listen(t, next, "tcp", "127.0.0.1:0", false)
		dial(t, first)
		want := keepAliveOf(t, accept(t, first))
		old.Pause(true)
		next.Open(true)
		dial(t, first)
		if got := keepAliveOf(t, accept(t, second)); got != want {
			t.Errorf("%+v: on, idle, interval, count: %v, in the first generation %v", config, got, want)
		}
	}
}

func keepAliveOf(t *testing.T, c net.Conn) (all [4]int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		all[0], _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		for i, o := range []int{unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT} {
			all[i+1], _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, o)
		}
	})
	return all
}

// A queue has the length that the kernel allows when the process serves, and not before; that of a service manager's socket stays.
func TestQueuesFollowTheKernelsLimit(t *testing.T) {
	for _, own := range []bool{true, false} {
		old, _ := newSet(t, nil)
		first := listen(t, old, "tcp", "127.0.0.1:0", false)
		most := queueOf(t, first)
		if err := unix.Listen(old.Refs()[0].fd, 5); err != nil {
			t.Fatal(err)
		}
		old.Refs()[0].own = own
		next, _ := newSet(t, nil)
		handOn(t, old, next)
		second := listen(t, next, "tcp", "127.0.0.1:0", false)
		if got := queueOf(t, second); got != 5 {
			t.Errorf("own %v: before the commit: %d", own, got)
		}
		next.ListenAgain()
		want := map[bool]uint32{true: most, false: 5}[own]
		if got := queueOf(t, second); got != want {
			t.Errorf("own %v: %d, want %d", own, got, want)
		}
	}
}

// queueOf is the length that the queue of a listener may have.
func queueOf(t *testing.T, ln net.Listener) uint32 {
	t.Helper()
	raw, err := ln.(*listener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }), failed); err != nil {
		t.Fatal(err)
	}
	return info.Sacked
}
