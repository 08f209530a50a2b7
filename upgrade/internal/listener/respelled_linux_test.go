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

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"golang.org/x/sys/unix"
)

// respelled opens an address in an older generation and in the next one another one, in which {} is the port of the first.
func respelled(t *testing.T, network, addr, network2, addr2 string) (old, next *Set, first, second net.Listener, err error) {
	t.Helper()
	old, _ = newSet(t, nil)
	first = listen(t, old, network, atFreePort(t, addr), false)
	old.Open(true)
	next, _ = newSet(t, nil)
	handOn(t, old, next)
	second, err = next.Listen(network2, strings.ReplaceAll(addr2, "{}", fmt.Sprint(first.Addr().(*net.TCPAddr).Port)), false)
	if err == nil {
		t.Cleanup(func() { second.Close() })
	}
	return old, next, first, second, err
}

// atFreePort puts a port in the place of port 0 that is free at every address.
func atFreePort(t *testing.T, addr string) string {
	t.Helper()
	return strings.TrimSuffix(addr, "0") + testutil.FreePort(t)
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
		if !second.(*listener).ref.from.own() || second.(*listener).ref.from.fresh() {
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

// A wildcard in place of an address, and the way back, takes no client from the old process before the commit, and loses none of those
// who connect around it, while the old process still has its descriptor.
func TestSocketBesideAnother(t *testing.T) {
	for _, c := range []struct {
		network, addr, network2, addr2 string
		missing                        int // it does not get all clients
	}{
		{"tcp", "127.0.0.1:0", "tcp", "0.0.0.0:{}", 0},
		{"tcp", "127.0.0.1:0", "tcp4", ":{}", 0},
		{"tcp4", "0.0.0.0:0", "tcp", ":{}", 0},
		{"tcp", "[::1]:0", "tcp", ":{}", 0},
		{"tcp", "[::1]:0", "tcp6", "[::]:{}", 0},
		{"tcp", ":0", "tcp", "127.0.0.1:{}", 1},
		{"tcp4", ":0", "tcp", "localhost:{}", 1},
		{"tcp", ":0", "tcp6", "[::1]:{}", 1},
		{"tcp", ":0", "tcp4", ":{}", 1},
		{"tcp", ":0", "tcp6", ":{}", 1},
	} {
		t.Run(fmt.Sprint(c.network, c.addr, c.network2, c.addr2), func(t *testing.T) {
			old, next, first, second, err := respelled(t, c.network, c.addr, c.network2, c.addr2)
			if err != nil {
				t.Fatal(err)
			}
			if missing := next.Missing(nil); len(missing) != c.missing {
				t.Errorf("missing: %v", missing)
			}
			exact := first
			if c.missing > 0 {
				exact = second
			}
			if !next.Beside() {
				t.Error("it listens before the commit")
			}
			next.Open(false) // as in a soak
			dial(t, exact)
			accept(t, first)
			old.Pause(true)
			var clients []net.Conn
			connect := func() {
				for range 10 {
					clients = append(clients, dial(t, exact))
				}
			}
			connect()
			if err := next.BeginListening(); err != nil || next.Beside() {
				t.Fatal(err)
			}
			next.Open(true)
			connect()
			next.DropRest()
			connect()
			next.EndEmptying()
			next.queues.running.Wait()
			connect() // the old process has its descriptor still, and nobody accepts there
			for range clients {
				fmt.Fprint(accept(t, second), "+")
			}
			for i, client := range clients {
				if b, err := io.ReadAll(io.LimitReader(client, 1)); err != nil || string(b) != "+" {
					t.Errorf("client %d: %q, %v", i, b, err)
				}
			}
			name := old.Refs()[0].socketName()
			if r, err := next.Find(name.Network, name.Addr); (err == nil && r == second.(*listener).ref) != (c.missing == 0) {
				t.Errorf("%v comes out of %v, %v", name, r, err)
			}
			raw, err := second.(*listener).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if left := socketOption(t, raw, unix.SO_REUSEPORT); left != 0 {
				t.Error("others of this user can bind the port")
			}
		})
	}
}

// A socket of one family has no clients of the other one.
func TestFamilyOfAWildcardStays(t *testing.T) {
	for network, other := range map[string]string{"tcp4": "[::1]", "tcp6": "127.0.0.1"} {
		_, next, _, second, err := respelled(t, "tcp", ":0", network, ":{}")
		if err != nil {
			t.Fatal(err)
		}
		if err := next.BeginListening(); err != nil {
			t.Fatal(err)
		}
		next.DropRest()
		addr := net.JoinHostPort(other, fmt.Sprint(second.Addr().(*net.TCPAddr).Port))
		if c, err := net.Dial("tcp", strings.ReplaceAll(strings.ReplaceAll(addr, "[[", "["), "]]", "]")); err == nil {
			c.Close()
			t.Errorf("%s has clients at %s", network, addr)
		}
	}
}

// A candidate that is gone leaves no option on the sockets of the process that serves.
func TestReusePortIsTakenBack(t *testing.T) {
	for _, c := range [][4]string{{"tcp", "127.0.0.1:0", "tcp", ":{}"}, {"tcp", ":0", "tcp", "127.0.0.1:{}"}} {
		old, _, first, second, err := respelled(t, c[0], c[1], c[2], c[3])
		if err != nil {
			t.Fatal(err)
		}
		if !hasReusePort(old.Refs()[0].fd) {
			t.Errorf("%v: the candidate %v needs none", c, second.Addr())
		}
		old.TakeReusePortBack() // the candidate was killed
		raw, err := first.(*listener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if socketOption(t, raw, unix.SO_REUSEPORT) != 0 {
			t.Errorf("%v: others of this user can bind the port", c)
		}
	}
}

// More or fewer listeners that share an address by SO_REUSEPORT: no client waits or is lost.
func TestSharersMayBecomeMoreOrFewer(t *testing.T) {
	for _, c := range []struct{ first, second int }{{1, 3}, {3, 1}} {
		old, _ := newSet(t, nil)
		old.Configure(sharing())
		olds := []net.Listener{listen(t, old, "tcp", "127.0.0.1:0", false)}
		addr := olds[0].Addr().String()
		for range c.first - 1 {
			olds = append(olds, listen(t, old, "tcp", addr, false))
		}
		old.Open(true)
		next, _ := newSet(t, nil)
		next.Configure(sharing())
		handOn(t, old, next)
		var nexts []net.Listener
		for i := range c.second {
			name := addr
			if i == 0 {
				name = "127.0.0.1:0" // as the first one was opened
			}
			nexts = append(nexts, listen(t, next, "tcp", name, false))
		}
		if missing := next.Missing(nil); len(missing) > 0 {
			t.Errorf("%v: missing: %v", c, missing)
		}
		served := make(chan net.Listener, 1000)
		serve := func(all []net.Listener) {
			for _, ln := range all {
				go func() { // ends with the listener
					for {
						nc, err := ln.Accept()
						if err != nil {
							return
						}
						served <- ln
						nc.Write([]byte("+"))
						nc.Close()
					}
				}()
			}
		}
		serve(olds)
		serve(nexts)
		ask := func() {
			t.Helper()
			for range 40 {
				nc, err := net.DialTimeout("tcp", addr, patience)
				if err != nil {
					t.Fatal(err)
				}
				_ = nc.SetDeadline(time.Now().Add(patience)) // it never fails
				if b, err := io.ReadAll(nc); err != nil || string(b) != "+" {
					t.Errorf("%v: %q, %v", c, b, err)
				}
				nc.Close()
			}
		}
		ask() // the old process has all of them
		old.Pause(true)
		if err := next.BeginListening(); err != nil {
			t.Fatal(err)
		}
		next.Open(true)
		next.DropRest()
		for _, r := range old.Refs() { // a member that is for no device would go on to be chosen
			if v, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX); err != nil || v != 0 {
				t.Errorf("%v: it is bound to device %d, %v", c, v, err)
			}
		}
		for _, ln := range olds {
			ln.Close()
		}
		ask()
	}
}

// A socket that a service manager may have is neither shared nor detached: an address on its port is in use.
func TestSocketsOfAManagerAreLeftAlone(t *testing.T) {
	old, _ := newSet(t, nil)
	first := listen(t, old, "tcp", atFreePort(t, "127.0.0.1:0"), false)
	old.Refs()[0].from = foreign
	next, _ := newSet(t, nil)
	handOn(t, old, next)
	if _, err := next.Listen("tcp", fmt.Sprint(":", first.Addr().(*net.TCPAddr).Port), false); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	if n := len(next.Missing(nil)); n != 1 {
		t.Errorf("%d missing", n)
	}
	next.DropRest()
	raw, err := first.(*listener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if got := socketOption(t, raw, unix.SO_BINDTOIFINDEX); got != 0 || socketOption(t, raw, unix.SO_REUSEPORT) != 0 {
		t.Errorf("it is bound to device %d", got)
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

// Two listeners that share an address have names of their own.
func TestSharedAddressHasTwoNames(t *testing.T) {
	old, _ := newSet(t, nil)
	old.Configure(sharing())
	first := listen(t, old, "tcp", "127.0.0.1:0", false)
	second := listen(t, old, "tcp", first.Addr().String(), false)
	third := listen(t, old, "tcp", first.Addr().String(), false)
	for n, ln := range []net.Listener{second, third} {
		want := first.Addr().String() + []string{"", "#2"}[n]
		if got := ln.(*listener).ref.Addr; got != want {
			t.Errorf("%d is called %s, want %s", n, got, want)
		}
	}
	next, _ := newSet(t, nil)
	next.Configure(sharing())
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
		if !own {
			old.Refs()[0].from = foreign
		}
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
