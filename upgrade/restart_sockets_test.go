//go:build linux

package upgrade_test

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// After a crash the supervisor gives back every socket that it holds, even if there are more sockets than a message can carry
// or an environment can name. No connection is refused, and clients that came in the meantime are answered.
func TestRestartGetsManySockets(t *testing.T) {
	t.Parallel()
	const many = 900
	r := testclient.Start(t, func(s *plan.Settings) { always(s); s.Many = many })
	r.WaitKnown()
	dead := r.MainPID()
	r.SignalMain(syscall.SIGKILL)
	for n := range many {
		c, err := net.Dial("unix", filepath.Join(r.Dir, strconv.Itoa(n)))
		if err != nil {
			t.Fatalf("socket %d: %v", n, err)
		}
		t.Cleanup(func() { c.Close() })
	}
	mustBeOneService(t, r, dead)
	dead = r.MainPID()
	r.Upgrade()
	r.WaitServing(3, dead)
	mustGreet(t, r, many)
	r.MustStop(syscall.SIGTERM)
}

// A service with thousands of listeners, with the longest possible paths, can be upgraded, and comes back after a crash. No
// client is refused.
func TestThousandsOfListeners(t *testing.T) {
	t.Parallel()
	many := 2000 // TCP sockets, and as many unix sockets
	if testing.Short() {
		many = 300
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Max < uint64(8*many) {
		t.Skipf("NOT RUN: the limit of open files is %d, too low for %d sockets: %v", limit.Max, 2*many, err)
	}
	r := testclient.Start(t, func(s *plan.Settings) { always(s); s.Ports, s.NoMove = many, true })
	r.WaitKnown()
	addrs := strings.Split(r.Read("ports"), "\n")
	if len(addrs) != 2*many {
		t.Fatalf("%d addresses", len(addrs))
	}
	mustAll := func() {
		t.Helper()
		for _, addr := range addrs {
			mustClose(t, addr)
		}
	}
	for range 2 {
		r.Upgrade()
		r.WaitFamily(t, 2, patience)
		mustAll()
		r.WaitKnown()
		dead := r.MainPID()
		r.SignalMain(syscall.SIGKILL)
		mustAll() // connections that came in the meantime wait in the queue
		mustBeOneService(t, r, dead)
		if now := r.Read("ports"); now != strings.Join(addrs, "\n") {
			t.Error("the ports have changed")
		}
	}
	r.MustStop(syscall.SIGTERM)
}

// Each of many listeners with the same address keeps its port in every upgrade, with and without the supervisor. No client is
// refused.
func TestPortsOfManyListenersAreKept(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*plan.Settings){"alone": func(*plan.Settings) {}, "supervised": always} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const many = 250 // TCP sockets, and as many unix sockets
			r := testclient.Start(t, func(s *plan.Settings) { set(s); s.Ports = many })
			ports := r.Read("ports")
			for range 2 {
				r.Upgrade()
				if now := r.Read("ports"); now != ports {
					t.Error("the ports have changed")
				}
				for addr := range strings.SplitSeq(ports, "\n") {
					mustClose(t, addr)
				}
			}
			r.SignalMain(syscall.SIGTERM)
			r.WaitFamily(t, 0, patience)
		})
	}
}

// mustClose connects to an address of a socket of Settings.Ports, and waits until the service has closed the connection.
func mustClose(t *testing.T, addr string) {
	t.Helper()
	network := "tcp"
	if filepath.IsAbs(addr) {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience)) // never fails for such a connection
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("%s: %v", addr, err)
	}
}
