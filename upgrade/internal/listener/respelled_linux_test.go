package listener

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// respelled opens addr in an older generation and addr2 in the next generation. In addr2, {} means the port of the first
// listener.
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

// atFreePort replaces port 0 in addr by a port that is free at every address.
func atFreePort(t *testing.T, addr string) string {
	t.Helper()
	return strings.TrimSuffix(addr, "0") + testutil.FreePort(t)
}

// identity returns the inode of the socket of a listener.
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

// The new version takes over a socket even if it spells the address in another way. If the older generation passes a connection
// by the old name, this listener accepts the connection.
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

// Another path to the same file means the same socket. Packet sockets are found under another spelling too.
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

// Two listeners that share an address have different names.
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
