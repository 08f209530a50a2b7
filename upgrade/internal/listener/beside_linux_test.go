package listener

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sharing returns the configuration of a program that shares addresses by SO_REUSEPORT.
func sharing() net.ListenConfig {
	return net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { setReusePort(int(fd), true) })
	}}
}

// portOf returns the address of a listener without the host: ":" and the port.
func portOf(ln net.Listener) string { return fmt.Sprint(":", ln.Addr().(*net.TCPAddr).Port) }

// A new version may open two sockets in place of one. Both listen, and SO_REUSEPORT is left on none of the three sockets.
func TestTwoSocketsBesideOne(t *testing.T) {
	for _, c := range [][4]string{{"tcp", ":0", "127.0.0.1", "[::1]"}, {"tcp4", "0.0.0.0:0", "127.0.0.1", "127.0.0.2"}, {"tcp4", "127.0.0.1:0", "0.0.0.0", "[::]"}} {
		old, _ := newSet(t, nil)
		first := listen(t, old, c[0], atFreePort(t, c[1]), false)
		next, _ := newSet(t, nil)
		handOn(t, old, next)
		for _, host := range c[2:] {
			network := "tcp4"
			if strings.HasPrefix(host, "[") {
				network = "tcp6"
			}
			listen(t, next, network, host+portOf(first), false)
		}
		if err := next.BeginListening(); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		for _, r := range append(next.Refs(), old.Refs()...) {
			if !accepts(uintptr(r.fd)) || hasReusePort(r.fd) {
				t.Errorf("%v: %s listens: %v, shares its port: %v", c, r.Addr, accepts(uintptr(r.fd)), hasReusePort(r.fd))
			}
		}
	}
}

// If the program does not share a port by SO_REUSEPORT, a second socket on the port is refused at a start, and in an upgrade
// too.
func TestPortIsNotSharedByMistake(t *testing.T) {
	for _, c := range [][2]string{{"127.0.0.1", "127.0.0.1"}, {"127.0.0.1", ""}, {"", "127.0.0.1"}} {
		old, _ := newSet(t, nil)
		first := listen(t, old, "tcp", atFreePort(t, "127.0.0.1:0"), false)
		next, _ := newSet(t, nil)
		handOn(t, old, next)
		a, err1 := next.Listen("tcp", c[0]+portOf(first), false)
		b, err2 := next.Listen("tcp", c[1]+portOf(first), false)
		if err1 == nil && err2 == nil {
			t.Errorf("%v: both are open", c)
		}
		for _, ln := range []net.Listener{a, b} {
			if ln != nil {
				ln.Close()
			}
		}
		if hasReusePort(old.Refs()[0].fd) {
			t.Errorf("%v: the socket of the old process shares its port", c)
		}
	}
}

// If a program shares its addresses by SO_REUSEPORT, its sockets keep the option when a candidate is the candidate is taken
// back.
func TestSharersGoOnToShare(t *testing.T) {
	old, _ := newSet(t, nil)
	old.Configure(sharing())
	listen(t, old, "tcp", "127.0.0.1:0", false)
	next, _ := newSet(t, nil)
	next.Configure(sharing())
	handOn(t, old, next)
	ln := listen(t, next, "tcp", "127.0.0.1:0", false)
	next.NoteReusePort()
	next.TakeReusePortBack()
	if !hasReusePort(next.Refs()[0].fd) {
		t.Error("it shares no more")
	}
	if err := next.BeginListening(); err != nil {
		t.Fatal(err)
	}
	next.Open(true)
	next.Pause(true) // the commit
	late := listen(t, next, "tcp", ln.Addr().String(), false)
	next.Open(true) // taken back
	if next.Beside() || !accepts(uintptr(late.(*listener).ref.fd)) {
		t.Error("a listener that was opened meanwhile does not listen")
	}
}

// Dup passes received sockets that this process has not opened. It does not pass a socket that does not listen yet.
func TestOnlyWhatListensIsHandedOn(t *testing.T) {
	old, next, _, second, err := respelled(t, "tcp", "127.0.0.1:0", "tcp", ":{}")
	if err != nil {
		t.Fatal(err)
	}
	files, drop, err := next.Dup()
	if err != nil {
		t.Fatal(err)
	}
	defer drop()
	if len(files) != 1 || files[0].Name[2] != old.Refs()[0].Addr {
		t.Errorf("%v, beside %v", files, second.Addr())
	}
	for name := range next.Own() {
		if name.Addr == old.Refs()[0].Addr {
			return
		}
	}
	t.Errorf("own: %v", next.Own())
}

// The connections of a socket that was bound beside another one have the keep-alive of the configuration. This also holds for
// connections from the queue of the old socket.
func TestBesideHasTheKeepAliveOfTheConfiguration(t *testing.T) {
	old, _ := newSet(t, nil)
	first := listen(t, old, "tcp", atFreePort(t, "127.0.0.1:0"), false)
	next, _ := newSet(t, nil)
	next.Configure(net.ListenConfig{KeepAlive: 77 * time.Second})
	handOn(t, old, next)
	second := listen(t, next, "tcp", portOf(first), false)
	dial(t, first) // this connection waits in the old queue
	if err := next.BeginListening(); err != nil {
		t.Fatal(err)
	}
	next.Open(true)
	next.DropRest()
	dial(t, first)
	for range 2 {
		if k := keepAliveOf(t, accept(t, second)); k[1] != 77 {
			t.Errorf("on, idle, interval, count: %v", k)
		}
	}
}
