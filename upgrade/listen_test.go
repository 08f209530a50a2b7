//go:build linux

package upgrade_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Every kind of socket keeps its address through upgrades, and no socket is taken for another one.
func TestSocketsKeepTheirAddresses(t *testing.T) {
	p, dir := startListens(t)
	want := addrsOf(t, dir, 1)
	for generation := 1; generation <= 3; generation++ {
		if got := addrsOf(t, dir, generation); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("generation %d has other addresses:\n%v\n%v", generation, got, want)
		}
		for _, s := range testservice.Sockets(dir) {
			ask := fmt.Sprintf("%s %d", s.Name, generation)
			testutil.Until(t, 10*time.Second, ask, func() bool { return answerOf(t, dir, s.Network, want[s.Name]) == ask })
		}
		if generation < 3 {
			signalListens(t, dir, syscall.SIGHUP)
			testutil.Until(t, patience, "the next generation serves alone", func() bool {
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
	signalListens(t, dir, syscall.SIGHUP)
	testutil.Until(t, patience, "the second generation serves alone", func() bool {
		return len(p.Family()) == 1 && exists(filepath.Join(dir, "addrs2"))
	})
	signalListens(t, dir, syscall.SIGHUP)
	testutil.Until(t, patience, "the candidate accepts", func() bool { return answerOf(t, dir, "tcp", want["first"]) == "first 3" })
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

// A program that accepts without package drain gets connections of package net also from the old process. When the program
// closes such a connection, the client sees the end, although the old process lives.
func TestPassedConnectionsAreNets(t *testing.T) {
	t.Parallel()
	p, dir := startListens(t, "half")
	want := addrsOf(t, dir, 1)
	signalListens(t, dir, syscall.SIGHUP)
	for name, network := range map[string]string{"first": "tcp", "six": "tcp", "path": "unix", "abstract": "unix"} {
		seen := map[string]int{}
		testutil.Until(t, patience, "the candidate answers on "+name, func() bool {
			seen[wholeAnswerOf(t, network, want[name])]++
			return seen[name+" 2\n"] >= 20
		})
		if seen[name+" 1\n"] == 0 || len(seen) != 2 {
			t.Errorf("%s: %v", name, seen)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, patience, "the new process serves alone", func() bool { return len(p.Family()) == 1 && exists(filepath.Join(dir, "addrs2")) })
	stopListens(t, p, dir)
}

// wholeAnswerOf opens a connection, and returns all bytes that come before its end.
func wholeAnswerOf(t *testing.T, network, addr string) string {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// startListens starts the test program listens in a new directory, with empty files of the given names.
func startListens(t *testing.T, files ...string) (*testutil.Proc, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := testutil.Start(t, "listens", testutil.Cfg{Env: []string{plan.DirEnv + "=" + dir}})
	testutil.Until(t, patience, "the program serves", func() bool { return exists(filepath.Join(dir, "pid")) })
	return p, dir
}

func stopListens(t *testing.T, p *testutil.Proc, dir string) {
	t.Helper()
	signalListens(t, dir, syscall.SIGTERM)
	p.WaitFamily(t, 0, patience)
}

// signalListens signals the process that the pid file in the directory names.
func signalListens(t *testing.T, dir string, sig syscall.Signal) {
	t.Helper()
	r := testclient.Service{Dir: dir}
	r.Set.PIDFile = filepath.Join(dir, "pid")
	if err := syscall.Kill(r.MainPID(), sig); err != nil {
		t.Fatalf("signal %v to pid %d: %v", sig, r.MainPID(), err)
	}
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

// answerOf connects to a socket, and returns the first line of the answer.
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

// A listener that is opened while the service runs accepts.
func TestListenerOpenedLateAccepts(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	r.WaitServing(1, 0)
	r.Ask("POST", "/listen")
	mustBeGreeted(t, r, "late.sock")
	r.Upgrade()
	r.WaitServing(2, 0)
	r.Ask("POST", "/listen")
	mustBeGreeted(t, r, "late.sock")
}

// mustBeGreeted connects to a unix socket in the directory of the service, and fails the test unless the service accepts and
// closes the connection.
func mustBeGreeted(t *testing.T, r *testclient.Service, name string) {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(r.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%s is not accepted on: %v", name, err)
	}
}

// If a program closes a listener and opens its address again, the next generation inherits the listener.
func TestReopenedAddressIsInherited(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.FirstReopensTwice })
	keepsAddress(t, r)
}

// If the next release opens an address by ListenPinned, it inherits the listener that this release has opened by Listen.
func TestPinnedLaterIsInherited(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.FirstReopens })
	r.Change(func(s *plan.Settings) { s.Bad = plan.ListenPinned })
	keepsAddress(t, r)
}

// keepsAddress upgrades to a release that listens on the address and port that this release has got.
func keepsAddress(t *testing.T, r *testclient.Service) {
	t.Helper()
	r.Change(func(s *plan.Settings) { s.Addr = r.Addr })
	l := r.Load(smallLoad)
	r.Upgrade()
	testutil.Until(t, patience, "the new release answers", func() bool { return l.Seen("g2") })
	r.Account(l).MustBeClean(t)
}
