package listener

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A new version may listen at the wildcard address in place of a specific address, or the other way round. Before the commit,
// its socket takes no client from the old process. No client that connects around the commit is lost, even while the old
// process still has its descriptor.
func TestSocketBesideAnother(t *testing.T) {
	for _, c := range []struct {
		network, addr, network2, addr2 string
		missing                        int // the new socket does not get all clients of the old socket
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
			next.Open(false) // a soak
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
			connect() // the old process still has its descriptor, and does not accept
			answerAll(t, second, clients)
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

// answerAll accepts as many connections as there are clients, and answers each client.
func answerAll(t *testing.T, ln net.Listener, clients []net.Conn) {
	t.Helper()
	for range clients {
		fmt.Fprint(accept(t, ln), "+")
	}
	for i, client := range clients {
		if b, err := io.ReadAll(io.LimitReader(client, 1)); err != nil || string(b) != "+" {
			t.Errorf("client %d: %q, %v", i, b, err)
		}
	}
}

// A socket of one family (IPv4 or IPv6) gets no clients of the other family.
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

// If a candidate has died, TakeReusePortBack removes SO_REUSEPORT from the sockets of the process that serves.
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

// serve answers the clients of listeners until the listeners are closed.
func serve(all []net.Listener) {
	for _, ln := range all {
		go func() { // the goroutine ends when the listener is closed
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				nc.Write([]byte("+"))
				nc.Close()
			}
		}()
	}
}

// A new version may open more or fewer listeners that share an address by SO_REUSEPORT. No client is lost or has to wait.
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
				name = "127.0.0.1:0" // the address with which the first listener was opened
			}
			nexts = append(nexts, listen(t, next, "tcp", name, false))
		}
		if missing := next.Missing(nil); len(missing) > 0 {
			t.Errorf("%v: missing: %v", c, missing)
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
				_ = nc.SetDeadline(time.Now().Add(patience)) // SetDeadline never fails here
				if b, err := io.ReadAll(nc); err != nil || string(b) != "+" {
					t.Errorf("%v: %q, %v", c, b, err)
				}
				nc.Close()
			}
		}
		ask() // the old process gets all clients
		old.Pause(true)
		if err := next.BeginListening(); err != nil {
			t.Fatal(err)
		}
		next.Open(true)
		next.DropRest()
		for _, r := range old.Refs() { // otherwise the kernel would still choose a detached socket for new clients
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

// A socket that may belong to a socket unit gets no SO_REUSEPORT and is not detached. A new address on its port is in use.
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

// If another program uses an address, Listen returns an error, as without an upgrade.
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
