//go:build unix

package listener

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// namedFile returns a descriptor of a socket under a name, as a service manager passes it.
func namedFile(t testing.TB, c syscall.Conn, name string) *os.File {
	t.Helper()
	fd, _, err := sys.Duplicate(c)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { f.Close() })
	return f
}

// If an address is in use, the error explains how to upgrade a service that runs already.
func TestAddressInUseSaysWhatToDo(t *testing.T) {
	taken, _ := newSet(t, nil)
	tcp, udp := listen(t, taken, "tcp", "127.0.0.1:0", false), listenPacket(t, taken, "udp", "127.0.0.1:0")
	s, _ := newSet(t, nil)
	_, err1 := s.Listen("tcp", tcp.Addr().String(), false)
	_, err2 := s.ListenPacket("udp", udp.LocalAddr().String())
	for _, err := range []error{err1, err2} {
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "is the service running already? It upgrades on a SIGHUP") {
			t.Error(err)
		}
	}
	if len(s.Refs()) > 0 {
		t.Errorf("%q are open", names(s))
	}
}

// brokenInheritor returns an error, or a listener of a type that cannot be passed on.
type brokenInheritor struct {
	ln  net.Listener
	err error
}

func (b brokenInheritor) Listener(string, string) (net.Listener, error)     { return b.ln, b.err }
func (b brokenInheritor) PacketConn(string, string) (net.PacketConn, error) { return nil, b.err }

// foreignListener is a listener that is not from package net.
type foreignListener struct {
	net.Listener
	closed bool
}

func (f *foreignListener) Close() error { f.closed = true; return nil }

// An error of Listen names the step, the network and the address. After the error no descriptor stays open.
func TestListenErrorsNameTheSocket(t *testing.T) {
	foreign := &foreignListener{}
	for _, c := range []struct {
		name          string
		fds           Inheritor
		network, addr string
		want          string
	}{
		{"inherit", brokenInheritor{err: errors.New("torn")}, "tcp", ":0", "upgrade: inherit tcp :0: torn"},
		{"type", brokenInheritor{ln: foreign}, "tcp", ":0", "upgrade: listen tcp :0: a *listener.foreignListener cannot be handed on"},
		{"network", &generation{}, "carrier pigeon", ":0", "upgrade: listen carrier pigeon :0: "},
		{"socket unit", &generation{}, sdnotify.Network, "web", `upgrade: listen systemd web: `},
	} {
		s := New(c.fds, nil)
		s.Activate(&sdnotify.Activation{})
		if ln, err := s.Listen(c.network, c.addr, false); ln != nil || err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", c.name, ln, err, c.want)
		}
		if len(s.Refs()) > 0 {
			t.Errorf("%s: %q are open", c.name, names(s))
		}
	}
	if !foreign.closed {
		t.Error("the listener that cannot be handed on is open")
	}
	if pc, err := New(brokenInheritor{err: errors.New("torn")}, nil).ListenPacket("udp", ":0"); pc != nil || err == nil || err.Error() != "upgrade: inherit udp :0: torn" {
		t.Errorf("%v, %v", pc, err)
	}
}

// If no descriptor is free for the duplicate, Listen closes the socket and returns an error with advice.
func TestListenNeedsADescriptorMore(t *testing.T) {
	s, g := newSet(t, nil)
	old, _ := newSet(t, nil)
	ln := listen(t, old, "tcp", "127.0.0.1:0", false)
	*g = generation{files: map[[3]string]*os.File{{"listener", "tcp", "127.0.0.1:0"}: namedFile(t, ln.(*listener).bare, "inherited")}, taken: map[[3]string]*os.File{}}
	spare, err := os.Open(os.DevNull) // closed later, to make room for the inherited socket, but not for its duplicate
	if err != nil {
		t.Fatal(err)
	}
	limitFiles(t)
	spare.Close()
	if ln, err := s.Listen("tcp", "127.0.0.1:0", false); ln != nil || !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), "raise the limit") {
		t.Errorf("%v, %v", ln, err)
	}
	if f, err := os.Open(os.DevNull); err != nil {
		t.Errorf("what was inherited is still open: %v", err)
	} else {
		f.Close()
	}
}

// Listen first takes a socket from an older generation, then a socket from a service manager, and opens a new socket last.
func TestSocketsAreTakenInOrder(t *testing.T) {
	unit, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer unit.Close()
	addr := unit.Addr().String()
	first, _ := newSet(t, nil)
	first.Activate(&sdnotify.Activation{Files: []*os.File{namedFile(t, unit.(*net.TCPListener), "web")}})
	if got := listen(t, first, "tcp", addr, false); got.Addr().String() != addr {
		t.Errorf("passed: %v, want %v", got.Addr(), addr)
	}
	second, g := newSet(t, first)
	passed := &sdnotify.Activation{Files: []*os.File{namedFile(t, unit.(*net.TCPListener), "web")}}
	second.Activate(passed)
	listen(t, second, "tcp", addr, false)
	left, err := passed.Take("listener", "tcp", addr, addr)
	if len(g.files) > 0 || left == nil || err != nil {
		t.Fatalf("inherited and not taken: %v; passed and not taken: %v, %v", g.files, left, err)
	}
	left.(net.Listener).Close()
}

// Storable returns a duplicate, which the caller closes. The StoreName of the socket is the same in every generation.
func TestStorableIsADuplicate(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	r := s.Refs()[0]
	if got, want := r.StoreName(), sdnotify.StoreName("listener", "tcp", "127.0.0.1:0"); got != want || got == "" {
		t.Errorf("store name %q, want %q", got, want)
	}
	f := r.Storable()
	if f == nil || sys.FD(f) == uintptr(r.fd) {
		t.Fatalf("%v", f)
	}
	ln.Close()
	if refused(t, ln) {
		t.Error("the stored descriptor does not keep the socket")
	}
	f.Close()
	if !refused(t, ln) {
		t.Error("the socket outlives every descriptor of the test")
	}
	if r.Storable() != nil {
		t.Error("a closed socket can be stored")
	}
}

// If no descriptor is free, Storable returns nil.
func TestStorableNeedsADescriptor(t *testing.T) {
	s, _ := newSet(t, nil)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	limitFiles(t)
	if f := s.Refs()[0].Storable(); f != nil {
		t.Error(f)
	}
}

// If a program opens more sockets than can be passed on, Listen returns an error with the number.
func TestTooManySocketsAreRefused(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	one := s.Refs()[0]
	for range sdnotify.MostSockets - 1 {
		s.all.order.PushBack(one)
	}
	if _, err := s.Listen("tcp", "127.0.0.1:0", false); err == nil || !strings.Contains(err.Error(), "8192 sockets are open") {
		t.Error(err)
	}
	for s.all.order.Len() > 1 {
		s.all.order.Remove(s.all.order.Back())
	}
	ln.Close()
}
