//go:build unix

package listener

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
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

// stale leaves the path of a unix socket that nobody has any more.
func stale(t testing.TB, network, path string) {
	t.Helper()
	kind := unix.SOCK_STREAM
	if network == "unixgram" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_UNIX, kind, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

// The path of a unix socket that nobody holds any more is replaced.
func TestStalePathIsReplaced(t *testing.T) {
	s, _ := newSet(t, nil)
	path := socketPath(t)
	stale(t, "unix", path)
	ln := listen(t, s, "unix", path, false)
	s.Open(true)
	dial(t, ln)
	accept(t, ln)
	stale(t, "unixgram", path+"g")
	listenPacket(t, s, "unixgram", path+"g")
	c, err := net.Dial("unixgram", path+"g")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// The path of a unix socket that another process holds is not replaced, although nobody accepts and its queue is full.
func TestLivingPathIsNotReplaced(t *testing.T) {
	path := socketPath(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	before := inode(t, path)
	s, _ := newSet(t, nil)
	for range 3 { // each leaves a connection in the queue, until there is no room
		ln, err := s.Listen("unix", path, false)
		if !errors.Is(err, syscall.EADDRINUSE) || inode(t, path) != before {
			t.Fatalf("%v, %v", ln, err)
		}
		c, err := net.Dial("unix", path)
		if err == nil {
			defer c.Close()
		}
	}
}

// inode returns the inode of a path.
func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Ino)
}

// A file that is no socket is never removed for a unix socket of the same path.
func TestFileInThePlaceOfASocketStays(t *testing.T) {
	s, _ := newSet(t, nil)
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, listen := range map[string]func() error{
		"listener": func() error { _, err := s.Listen("unix", path, false); return err },
		"packet":   func() error { _, err := s.ListenPacket("unixgram", path); return err },
	} {
		err := listen()
		if b, _ := os.ReadFile(path); string(b) != "precious" || !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: the file holds %q, and the error is %v", what, b, err)
		}
	}
}

// A file that has taken the place of a unix socket stays when the socket is closed.
func TestFileThatHasReplacedASocketStays(t *testing.T) {
	s, _ := newSet(t, nil)
	s.UnlinkOnClose(true)
	path := socketPath(t)
	ln := listen(t, s, "unix", path, false)
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("precious"), 0o600)); err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if !exists(path) {
		t.Error("it is removed")
	}
}

// An address that is in use says what may be meant: an upgrade of the service that runs already.
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

// brokenInheritor fails, or has a listener of a type that cannot be handed on.
type brokenInheritor struct {
	ln  net.Listener
	err error
}

func (b brokenInheritor) Listener(string, string) (net.Listener, error)     { return b.ln, b.err }
func (b brokenInheritor) PacketConn(string, string) (net.PacketConn, error) { return nil, b.err }

// foreignListener is not one of package net.
type foreignListener struct {
	net.Listener
	closed bool
}

func (f *foreignListener) Close() error { f.closed = true; return nil }

// An error of Listen names the step, the network and the address, and nothing stays open.
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

// A socket that cannot be duplicated for want of descriptors is closed, and the error says what to do.
func TestListenNeedsADescriptorMore(t *testing.T) {
	s, g := newSet(t, nil)
	old, _ := newSet(t, nil)
	ln := listen(t, old, "tcp", "127.0.0.1:0", false)
	*g = generation{files: map[[3]string]*os.File{{"listener", "tcp", "127.0.0.1:0"}: namedFile(t, ln.(*listener).bare, "inherited")}, taken: map[[3]string]*os.File{}}
	spare, err := os.Open(os.DevNull) // room for what is inherited, and not for its duplicate
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

// A socket that a service manager has passed is taken before a new one is opened, and after what an older generation has
// handed over.
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
	if len(g.files) > 0 || len(passed.Files) != 1 {
		t.Errorf("inherited and not taken: %v; passed and not taken: %v", g.files, passed.Files)
	}
}

// Storable is a descriptor of its own that the caller closes, under a name that is the same in every generation.
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

// Storable without room for a descriptor is nil.
func TestStorableNeedsADescriptor(t *testing.T) {
	s, _ := newSet(t, nil)
	listen(t, s, "tcp", "127.0.0.1:0", false)
	limitFiles(t)
	if f := s.Refs()[0].Storable(); f != nil {
		t.Error(f)
	}
}

// movedConn is a connection of another generation, which notes whether this process gives its descriptor up.
type movedConn struct {
	net.Conn
	plain         net.Conn
	network, addr string
	ended         []string
}

func (m *movedConn) Origin() (network, addr string) { return m.network, m.addr }
func (m *movedConn) Plain() net.Conn                { m.ended = append(m.ended, "plain"); return m.plain }
func (m *movedConn) Abandon()                       { m.ended = append(m.ended, "abandoned") }
func (m *movedConn) Close() error                   { m.ended = append(m.ended, "closed"); return nil }

// Accept of a socket makes a connection the next one of the program, in the order of arrival, whether the gate is open or
// shut, and before the kernel's queue.
func TestGivenConnectionsComeNext(t *testing.T) {
	for _, open := range []bool{false, true} {
		s, _ := newSet(t, nil)
		ln := listen(t, s, "tcp", "127.0.0.1:0", false)
		if open {
			s.Open(false)
		}
		dial(t, ln)
		given := []*movedConn{{addr: "first"}, {addr: "second"}}
		for _, c := range given {
			if err := s.Refs()[0].Accept(c); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range given {
			if got, err := ln.(*listener).AcceptMoved(); got != want {
				t.Errorf("open %v: %v, %v, want %v", open, got, err, want)
			}
		}
	}
}

// A connection that is given wakes a program that waits at a shut gate, and one that waits in the kernel.
func TestGivenConnectionWakesAccept(t *testing.T) {
	for _, open := range []bool{false, true} {
		s, _ := newSet(t, nil)
		ln := listen(t, s, "tcp", "127.0.0.1:0", false)
		if open {
			s.Open(false)
		}
		if err := ln.(*listener).SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		got := make(chan net.Conn)
		for range 20 {
			go func() { // ends with the connection, or with the deadline
				c, err := ln.(*listener).AcceptMoved()
				if err != nil {
					t.Errorf("open %v: %v", open, err)
				}
				got <- c
			}()
			want := &movedConn{}
			if err := s.Refs()[0].Accept(want); err != nil {
				t.Fatal(err)
			}
			if c := <-got; c != want {
				t.Fatalf("open %v: %v", open, c)
			}
		}
	}
}

// A program that calls Accept gets connections of package net only, which this process alone has then. One with bytes that are to be
// read first goes back, and the other process is told before that there is no use in sending it.
func TestAcceptGivesPlainConnections(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	ahead := listen(t, s, "tcp", "127.0.0.1:0", false).(*listener)
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	brings, moved := &movedConn{}, &movedConn{plain: near}
	for _, c := range []*movedConn{brings, moved} {
		if err := s.Refs()[0].Accept(c); err != nil {
			t.Fatal(err)
		}
	}
	if c := accept(t, ln); c != near || !slices.Equal(moved.ended, []string{"plain"}) || !slices.Equal(brings.ended, []string{"plain", "abandoned"}) {
		t.Errorf("%v, %v; the one that brings something: %v", c, moved.ended, brings.ended)
	}
	if err := ahead.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := ahead.AcceptMoved(); err == nil {
		t.Error("a connection came")
	}
	if b := s.Takes(); len(b.Listeners) != 2 || !slices.Equal(b.Plain, []int{0}) {
		t.Errorf("%+v", b)
	}
}

// A closed listener takes no connection: the error names the listener, and this process gives the connection up.
func TestClosedListenerTakesNothing(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	r := s.Refs()[0]
	ln.Close()
	moved := &movedConn{}
	near, far := net.Pipe()
	defer far.Close()
	for _, c := range []net.Conn{moved, near} {
		if err := r.Accept(c); err == nil || !strings.Contains(err.Error(), "the listener tcp 127.0.0.1:0 does not accept") {
			t.Error(err)
		}
	}
	if !slices.Equal(moved.ended, []string{"abandoned"}) {
		t.Errorf("the connection that another process has too: %v", moved.ended)
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the connection that nobody else has is open")
	}
}

// Closing a listener passes on what was given and not accepted, and gives up what no process takes.
func TestCloseMovesOnWhatWasNotAccepted(t *testing.T) {
	var on []net.Conn
	s := New(&generation{}, func(c net.Conn) bool {
		on = append(on, c)
		return len(on) == 1
	})
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	taken, left := &movedConn{}, &movedConn{}
	for _, c := range []net.Conn{taken, left} {
		if err := s.Refs()[0].Accept(c); err != nil {
			t.Fatal(err)
		}
	}
	ln.Close()
	if !slices.Equal(on, []net.Conn{taken, left}) || len(taken.ended) > 0 || !slices.Equal(left.ended, []string{"abandoned"}) {
		t.Errorf("passed on %v; taken: %v, left: %v", on, taken.ended, left.ended)
	}
}

// A socket more than can be handed on is refused with the number.
func TestTooManySocketsAreRefused(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	one := s.Refs()[0]
	for range sdnotify.MostSockets - 1 {
		s.all = append(s.all, one)
	}
	if _, err := s.Listen("tcp", "127.0.0.1:0", false); err == nil || !strings.Contains(err.Error(), "8192 sockets are open") {
		t.Error(err)
	}
	s.all = s.all[:1]
	ln.Close()
}
