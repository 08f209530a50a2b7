//go:build linux

package sdnotify

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

// socketFile returns a socket in the form in which a service manager passes it: as a descriptor with a name.
func socketFile(t *testing.T, name, network, addr string) *os.File {
	t.Helper()
	var f *os.File
	var err error
	if strings.HasPrefix(network, "udp") {
		pc, e := net.ListenPacket(network, addr)
		if e != nil {
			t.Fatal(e)
		}
		defer pc.Close()
		f, err = pc.(*net.UDPConn).File()
	} else {
		ln, e := net.Listen(network, addr)
		if e != nil {
			t.Fatal(e)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		defer ln.Close()
		f, err = ln.(interface{ File() (*os.File, error) }).File()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, _, err := sys.Duplicate(f)
	if err != nil {
		t.Fatal(err)
	}
	named := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { named.Close() })
	return named
}

func portOf(t *testing.T, f *os.File) string {
	t.Helper()
	ln, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// closeSocket closes a socket that Take has returned.
func closeSocket(sock any) {
	if c, ok := sock.(interface{ Close() error }); ok {
		c.Close()
	}
}

// Take finds a passed socket by the address of the socket, and by no other address.
func TestPassedSocketIsTakenByItsAddress(t *testing.T) {
	local, every := socketFile(t, "a", "tcp", "127.0.0.1:0"), socketFile(t, "b", "tcp", "[::]:0")
	here, there := portOf(t, local), portOf(t, every)
	for _, c := range []struct {
		network, addr string
		taken         bool
	}{
		{"tcp", "127.0.0.1:" + here, true},
		{"tcp4", "127.0.0.1:" + here, true},
		{"tcp", "localhost:" + here, true},
		{"tcp", ":" + here, false},
		{"tcp", "0.0.0.0:" + here, false},
		{"tcp", "127.0.0.2:" + here, false},
		{"tcp", "127.0.0.1:0", false},
		{"tcp", "127.0.0.1:" + there, false},
		{"tcp", ":" + there, true},
		{"tcp", "0.0.0.0:" + there, true},
		{"tcp", "[::]:" + there, true},
		{"unix", "/nowhere", false},
		{"tcp", "nonsense", false},
	} {
		copies := &Activation{}
		for _, f := range []*os.File{local, every} {
			d, err := sys.DupFile(f)
			if err != nil {
				t.Fatal(err)
			}
			copies.Files = append(copies.Files, d)
		}
		sock, err := copies.Take("listener", c.network, c.addr, c.addr)
		if err != nil || (sock != nil) != c.taken {
			t.Errorf("%s %s: %v, %v, want taken %v", c.network, c.addr, sock, err, c.taken)
		}
		closeSocket(sock)
		unclaimed(copies)
	}
}

// Take finds a passed socket by the name that its unit gives it, and only once. If there is no socket with the name, the error
// has this name and the names of the other sockets.
func TestPassedSocketIsTakenByItsName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	p := &Activation{Files: []*os.File{
		socketFile(t, "web", "tcp", "127.0.0.1:0"), socketFile(t, "admin", "unix", path), socketFile(t, "dns", "udp", "127.0.0.1:0"),
	}}
	for kind, names := range map[string][]string{"listener": {"admin", "web"}, "packet": {"dns"}} {
		for _, name := range names {
			sock, err := p.Take(kind, Network, name, name)
			if err != nil || sock == nil {
				t.Errorf("%s: %v, %v", name, sock, err)
			}
			closeSocket(sock)
		}
	}
	p.Files = append(p.Files, socketFile(t, "other", "tcp", "127.0.0.1:0"))
	_, err := p.Take("listener", Network, "web", "web")
	if err == nil || !strings.Contains(err.Error(), `"web"`) || !strings.Contains(err.Error(), "other") {
		t.Errorf("a second time: %v", err)
	}
	unclaimed(p)
}

// If a passed file is no listening socket, the error has the name of the file.
func TestPassedFileThatIsNoSocketIsNamed(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd, _, err := sys.Duplicate(null)
	if err != nil {
		t.Fatal(err)
	}
	p := &Activation{Files: []*os.File{os.NewFile(uintptr(fd), "web")}}
	if _, err := p.Take("listener", Network, "web", "web"); err == nil || !strings.Contains(err.Error(), `"web"`) {
		t.Errorf("%v", err)
	}
	unclaimed(p)
}

// Take finds a kept socket by its key, whatever address the socket has. Unclaimed returns the names of the kept sockets that
// were not taken.
func TestStoredSocketComesBackByItsKey(t *testing.T) {
	name := StoreName("listener", "tcp", ":0#2")
	kept := socketFile(t, name, "tcp", "127.0.0.1:0")
	p := &Activation{Files: []*os.File{kept, socketFile(t, StorePrefix+"listener.tcp.rest", "tcp", "127.0.0.1:0"), socketFile(t, "web", "tcp", "127.0.0.1:0")}}
	if sock, err := p.Take("listener", "tcp", "127.0.0.1:"+portOf(t, kept), ":0#1"); sock != nil || err != nil {
		t.Errorf("another key: %v, %v", sock, err)
	}
	sock, err := p.Take("listener", "tcp", ":0", ":0#2")
	if err != nil || sock == nil {
		t.Errorf("%v, %v", sock, err)
	}
	closeSocket(sock)
	if names := unclaimed(p); len(names) != 1 || names[0] != StorePrefix+"listener.tcp.rest" {
		t.Errorf("unclaimed: %q", names)
	}
	if unclaimed(p) != nil {
		t.Error("unclaimed twice")
	}
}

// Take does not return a kept unix socket whose path does not exist, because clients cannot connect to it. Stale reports this
// for the name of the socket.
func TestStoredSocketWithoutItsPathIsLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	name := StoreName("listener", "unix", path)
	for _, gone := range []bool{false, true} {
		p := &Activation{Files: []*os.File{socketFile(t, name, "unix", path)}}
		if err := os.Remove(path); gone && err != nil {
			t.Fatal(err)
		} else if !gone {
			if err := os.WriteFile(path, nil, 0o600); err != nil { // any file at the path counts
				t.Fatal(err)
			}
		}
		sock, err := p.Take("listener", "unix", path, path)
		if err != nil || (sock == nil) != gone || p.Stale(name) != gone {
			t.Errorf("path gone %v: %v, %v, stale %v", gone, sock, err, p.Stale(name))
		}
		closeSocket(sock)
		unclaimed(p)
		os.Remove(path)
	}
}

// StoreName returns names that systemd accepts: printable, without a colon, and not too long. Different addresses have
// different names.
func TestStoreNamesAreValidAndDifferent(t *testing.T) {
	seen := map[string]string{}
	for _, addr := range []string{"127.0.0.1:80", "[::1]:80", ":80", "/run/a b.sock", "/run/a%20b.sock", "@abstract", "/run/ä", "/run/\x01", ":0#2"} {
		name := StoreName("listener", "tcp", addr)
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
			t.Errorf("%q: %q", addr, name)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q are both %q", addr, other, name)
		}
		seen[name] = addr
	}
	if name := StoreName("listener", "unix", strings.Repeat("x", 300)); name != "" {
		t.Errorf("too long: %q", name)
	}
}

// TakeActivation takes no sockets if LISTEN_PID is the pid of another process. It removes the variables from the environment in
// any case.
func TestActivationIsForThisProcessOnly(t *testing.T) {
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("LISTEN_FDNAMES", "web")
	t.Setenv("LISTEN_PID", "1")
	if p := TakeActivation(); len(p.Files) != 0 {
		t.Errorf("took %q, which is process 1's", p.names())
	}
	for _, name := range []string{"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"} {
		if v, ok := os.LookupEnv(name); ok {
			t.Errorf("%s=%s is left", name, v)
		}
	}
}

// unclaimed closes the sockets that were not taken, and returns the names of the kept sockets.
func unclaimed(p *Activation) []string {
	left, names := p.Unclaimed()
	for _, f := range left {
		f.Close()
	}
	return names
}

// In process 1 of a unit with PrivatePIDs=, a variable with the pid outside of the namespace becomes 1. In other processes, and
// with other pids, the variables do not change.
func TestProcessOneIsNamedFromOutside(t *testing.T) {
	for _, c := range []struct {
		pid          int
		exec, listen string
		want         string
	}{{1, "77", "77", "1"}, {1, "77", "78", "78"}, {1, "", "77", "77"}, {2, "77", "77", "77"}} {
		t.Setenv("SYSTEMD_EXEC_PID", c.exec)
		t.Setenv("LISTEN_PID", c.listen)
		t.Setenv(watchdogPID, c.listen)
		if ownOutside(c.pid); os.Getenv("LISTEN_PID") != c.want || os.Getenv(watchdogPID) != c.want {
			t.Errorf("%+v: LISTEN_PID=%s WATCHDOG_PID=%s", c, os.Getenv("LISTEN_PID"), os.Getenv(watchdogPID))
		}
	}
}

// While Listen looks for a kept socket, which may take as long as a file system likes, the sockets that were not taken can be
// closed: the loop of Run does that. Listen takes none of them afterwards.
func TestLookingForAKeptSocketHoldsUpNobody(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := sys.DupFD(int(sys.FD(file)))
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	p := &Activation{Files: []*os.File{os.NewFile(uintptr(fd), StoreName("listener", "tcp", ":1"))}}
	looking, goOn, taken := make(chan struct{}), make(chan struct{}), make(chan any, 1)
	go func() { // ends after goOn
		sock, _, err := p.TakeKept("listener", func(*os.File) bool { close(looking); <-goOn; return true })
		if err != nil {
			t.Error(err)
		}
		taken <- sock
	}()
	<-looking
	done := make(chan struct{})
	go func() { // ends after goOn at the latest
		defer close(done)
		p.Stale("midair.other")
		if kept, names := p.Unclaimed(); len(kept) != 1 || len(names) != 1 {
			t.Errorf("%v, %q", kept, names)
		} else {
			kept[0].Close()
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("it waits for the one that looks")
	}
	close(goOn)
	<-done
	if sock := <-taken; sock != nil {
		t.Errorf("%v was taken although it is closed", sock)
	}
}
