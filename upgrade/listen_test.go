//go:build linux

package upgrade_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// sockets of the program "listens": every kind that can be handed on, and several of the same address.
func sockets(dir string) []struct{ name, network, addr string } {
	return []struct{ name, network, addr string }{
		{"first", "tcp", "127.0.0.1:0"},
		{"second", "tcp", "127.0.0.1:0"},
		{"third", "tcp", "127.0.0.1:0"},
		{"any", "tcp", ":0"},
		{"four", "tcp4", "127.0.0.1:0"},
		{"six", "tcp6", "[::1]:0"},
		{"path", "unix", filepath.Join(dir, "sock")},
		{"abstract", "unix", "@midair-test-" + filepath.Base(dir)},
		{"pinned", "pinned", "127.0.0.1:0"},
		{"udp", "udp", "127.0.0.1:0"},
		{"udp too", "udp", "127.0.0.1:0"},
		{"datagram", "unixgram", filepath.Join(dir, "gram")},
	}
}

// listensMain answers on every socket with the socket's name and its own generation.
func listensMain() error {
	dir := os.Getenv(dirEnv)
	up, err := upgrade.New(upgrade.Options{Soak: soakOf(dir), PIDFile: filepath.Join(dir, "pid")})
	if err != nil {
		return err
	}
	defer up.Close()
	l := listens{up: up, addrs: map[string]string{}}
	for _, s := range sockets(dir) {
		if err := l.open(s.name, s.network, s.addr); err != nil {
			return err
		}
	}
	b, _ := json.Marshal(l.addrs)
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("addrs", up.Status().Generation)), b, 0o600); err != nil {
		return err
	}
	return up.Run(context.Background(), l.serve)
}

func soakOf(dir string) time.Duration {
	b, _ := os.ReadFile(filepath.Join(dir, "soak"))
	d, err := time.ParseDuration(string(b))
	if err != nil {
		return -1
	}
	return d
}

type listens struct {
	up    *upgrade.Upgrader
	addrs map[string]string
	run   []func()
	close []func() error
}

func (l *listens) open(name, network, addr string) error {
	if network == "udp" || network == "unixgram" {
		pc, err := l.up.ListenPacket(network, addr)
		if err != nil {
			return err
		}
		l.addrs[name] = pc.LocalAddr().String()
		l.close = append(l.close, pc.Close)
		l.run = append(l.run, func() { l.echo(name, pc) })
		return nil
	}
	listen := l.up.Listen
	if network == "pinned" {
		listen, network = l.up.ListenPinned, "tcp"
	}
	ln, err := listen(network, addr)
	if err != nil {
		return err
	}
	l.addrs[name] = ln.Addr().String()
	l.close = append(l.close, ln.Close)
	l.run = append(l.run, func() { l.accept(name, ln) })
	return nil
}

func (l *listens) answer(name string) []byte {
	return fmt.Appendf(nil, "%s %d\n", name, l.up.Status().Generation)
}

func (l *listens) accept(name string, ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		c.Write(l.answer(name))
		c.Close()
	}
}

func (l *listens) echo(name string, pc net.PacketConn) {
	b := make([]byte, 64)
	for {
		_, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		pc.WriteTo(l.answer(name), from)
	}
}

func (l *listens) serve(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, fn := range l.run {
		wg.Go(fn)
	}
	<-ctx.Done()
	for _, fn := range l.close {
		fn()
	}
	wg.Wait()
	return nil
}

// Every kind of socket keeps its address through upgrades, and none takes the place of another.
func TestSocketsKeepTheirAddresses(t *testing.T) {
	p, dir := startListens(t)
	want := addrsOf(t, dir, 1)
	for generation := 1; generation <= 3; generation++ {
		if got := addrsOf(t, dir, generation); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("generation %d has other addresses:\n%v\n%v", generation, got, want)
		}
		for _, s := range sockets(dir) {
			ask := fmt.Sprintf("%s %d", s.name, generation)
			testutil.Until(t, 10*time.Second, ask, func() bool { return answerOf(t, dir, s.network, want[s.name]) == ask })
		}
		if generation < 3 {
			hangup(t, dir)
			testutil.Until(t, 20*time.Second, "the next generation serves alone", func() bool {
				return len(p.Family()) == 1 && exists(filepath.Join(dir, fmt.Sprint("addrs", generation+1)))
			})
		}
	}
	stopListens(t, p, dir)
	for _, path := range []string{"sock", "gram", "pid"} {
		if exists(filepath.Join(dir, path)) {
			t.Errorf("%s is left after a stop", path)
		}
	}
	if c, err := net.Dial("tcp", want["first"]); err == nil {
		c.Close()
		t.Error("somebody still listens after a stop")
	}
}

// During the soak both answer, but a pinned listener and datagrams stay with the main generation until the commit.
func TestPinnedListenerStaysUntilTheCommit(t *testing.T) {
	p, dir := startListens(t)
	want := addrsOf(t, dir, 1)
	if err := os.WriteFile(filepath.Join(dir, "soak"), []byte("1h"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangup(t, dir)
	testutil.Until(t, 20*time.Second, "the second generation serves alone", func() bool {
		return len(p.Family()) == 1 && exists(filepath.Join(dir, "addrs2"))
	})
	hangup(t, dir)
	testutil.Until(t, 20*time.Second, "the candidate accepts", func() bool { return answerOf(t, dir, "tcp", want["first"]) == "first 3" })
	for range 50 {
		for _, s := range []string{"pinned", "udp"} {
			network := strings.ReplaceAll(s, "pinned", "tcp")
			if got := answerOf(t, dir, network, want[s]); got != s+" 2" {
				t.Fatalf("%q answers on the %s socket before the commit", got, s)
			}
		}
	}
	stopListens(t, p, dir)
}

func startListens(t *testing.T) (*testutil.Proc, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := testutil.Start(t, "listens", testutil.Cfg{Env: []string{dirEnv + "=" + dir}})
	testutil.Until(t, 20*time.Second, "the program serves", func() bool { return exists(filepath.Join(dir, "pid")) })
	return p, dir
}

func stopListens(t *testing.T, p *testutil.Proc, dir string) {
	t.Helper()
	r := &running{t: t, set: settings{PIDFile: filepath.Join(dir, "pid")}}
	r.signalMain(syscall.SIGTERM)
	p.WaitFamily(t, 0, 20*time.Second)
}

func hangup(t *testing.T, dir string) {
	t.Helper()
	r := &running{t: t, set: settings{PIDFile: filepath.Join(dir, "pid")}}
	r.signalMain(syscall.SIGHUP)
}

func addrsOf(t *testing.T, dir string, generation int) map[string]string {
	t.Helper()
	m := map[string]string{}
	b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("addrs", generation)))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// answerOf asks a socket once.
func answerOf(t *testing.T, dir, network, addr string) string {
	t.Helper()
	if network == "pinned" {
		network = "tcp"
	}
	var c net.Conn
	var err error
	if network == "unixgram" {
		mine := filepath.Join(t.TempDir(), "c")
		c, err = net.DialUnix(network, &net.UnixAddr{Name: mine, Net: network}, &net.UnixAddr{Name: addr, Net: network})
	} else {
		c, err = net.Dial(network, addr)
	}
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if network == "udp" || network == "unixgram" {
		c.Write([]byte("?"))
	}
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// A listener that is opened while the service runs accepts.
func TestListenerOpenedLateAccepts(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	r.waitServing(1, 0)
	r.ask("POST", "/listen")
	r.mustBeGreeted("late.sock")
	r.upgrade()
	r.waitServing(2, 0)
	r.ask("POST", "/listen")
	r.mustBeGreeted("late.sock")
}

// mustBeGreeted asks the service to accept and close a connection to a socket in its directory.
func (r *running) mustBeGreeted(name string) {
	r.t.Helper()
	c, err := net.Dial("unix", filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		r.t.Fatalf("%s is not accepted on: %v", name, err)
	}
}

// An address that was closed and opened again is the same listener for the next generation.
func TestReopenedAddressIsInherited(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "reopen twice" })
	r.keepsAddress()
}

// A listener that the next release wants pinned is the one that this release has not pinned.
func TestPinnedLaterIsInherited(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "reopen" })
	r.change(func(s *settings) { s.Bad = "pin" })
	r.keepsAddress()
}

// keepsAddress upgrades to a release that asks for the very address that this one got.
func (r *running) keepsAddress() {
	r.t.Helper()
	r.change(func(s *settings) { s.Addr = r.addr })
	l := r.load(smallLoad)
	r.upgrade()
	testutil.Until(r.t, patience, "the new release answers", func() bool { return l.Seen("g2") })
	r.account(l).MustBeClean(r.t)
}
