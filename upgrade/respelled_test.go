//go:build linux

package upgrade_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
	"golang.org/x/sys/unix"
)

// A release may spell its address in another way, or listen on a wildcard in place of an address, and a later release may go
// back. No request is lost, and the port stays the same. After a crash the service serves on each of these addresses.
func TestAddressMayBeSpelledInAnotherWay(t *testing.T) {
	for processes, supervision := range withAndWithout {
		t.Run(fmt.Sprint(processes, " processes"), func(t *testing.T) {
			t.Parallel()
			port := testutil.FreePort(t)
			r := testclient.Start(t, func(s *plan.Settings) {
				supervision(s)
				s.Addr = "127.0.0.1:" + port
			})
			r.WaitServing(1, 0)
			l := r.Load(smallLoad)
			for i, host := range []string{"localhost", "0.0.0.0", "", "localhost", "127.0.0.1", "[::]", "127.0.0.1"} {
				r.Release(fmt.Sprint("build ", i%2))
				r.Change(func(s *plan.Settings) { s.Addr, s.MayClose = host+":"+port, []string{"*"} })
				if a := r.Ask("POST", "/upgrade-to-the-file"); !a.Committed {
					t.Fatalf("%q: %s", host, a.Error)
				}
				r.WaitFamily(t, processes, patience)
			}
			r.Account(l).MustBeClean(t)
			if processes == 1 {
				return
			}
			for i, host := range []string{"localhost", "127.0.0.1", "[::]", "0.0.0.0", "127.0.0.1", "localhost"} {
				r.Change(func(s *plan.Settings) { s.Addr = host + ":" + port })
				if i%2 == 0 { // from now on the service manager keeps the socket under another name
					r.Upgrade()
					r.WaitFamily(t, 2, patience)
					r.WaitKnown()
				}
				dead := r.MainPID()
				r.SignalMain(syscall.SIGKILL)
				r.Connect().Close() // ends the test if a client is refused
				mustBeOneService(t, r, dead)
				if _, by := r.Post("/add"); by == "" {
					t.Errorf("%q: nobody answers", host)
				}
			}
		})
	}
}

// A candidate dies after it was announced, and before the old process has read that the candidate serves. It leaves no socket
// on which no process accepts.
func TestAnnouncedSocketEndsWithItsCandidate(t *testing.T) {
	for _, way := range [][2]string{{"0.0.0.0", "127.0.0.1"}, {"127.0.0.1", "0.0.0.0"}} {
		t.Run(fmt.Sprint(way), func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, "new.announced", "kill")
			port := testutil.FreePort(t)
			r := testclient.Start(t, func(s *plan.Settings) {
				always(s)
				s.Addr, s.MayClose = way[0]+":"+port, []string{"*"}
			}, f.Env)
			r.WaitServing(1, 0)
			r.WaitKnown()
			r.Addr = "127.0.0.1:" + port
			r.Change(func(s *plan.Settings) { s.Addr = way[1] + ":" + port })
			if a := r.Ask("POST", "/upgrade"); a.Committed {
				t.Fatal("the upgrade was committed by a dead process")
			}
			for range 10 {
				r.Dial().Close() // each connection is answered
			}
		})
	}
}

// In a progressive upgrade to another address on the same port, every client is served at each weight, also at weight 1.
func TestWeightsHoldBesideAnotherSocket(t *testing.T) {
	for _, way := range [][2]string{{"127.0.0.1", "0.0.0.0"}, {"0.0.0.0", "127.0.0.1"}, {"127.0.0.1", "localhost"}} {
		t.Run(fmt.Sprint(way), func(t *testing.T) {
			t.Parallel()
			port := testutil.FreePort(t)
			r := testclient.Start(t, func(s *plan.Settings) {
				byWeights(0.5, 1, 0.5)(s)
				s.Addr, s.MayClose = way[0]+":"+port, []string{"*"}
			})
			r.WaitServing(1, 0)
			load := smallLoad
			load.Addr = "127.0.0.1:" + port
			l := testutil.StartLoad(t, load)
			r.Addr = load.Addr
			r.Change(func(s *plan.Settings) { s.Addr = way[1] + ":" + port })
			done := r.BeginUpgrade()
			for step := range 3 {
				r.AtStep(step)
				before := l.Total()
				testutil.Until(t, patience, "200 requests more", func() bool { return l.Total() >= before+200 })
				for range 10 {
					r.Dial().Close() // a new connection is answered at each weight
				}
				r.GoOn()
			}
			if a := <-done; !a.Committed {
				t.Fatal(a.Error)
			}
			r.WaitFamily(t, 1, patience)
			r.Account(l).MustBeClean(t)
		})
	}
}

// Idle connections come back from a candidate that spells the address in another way than the old process.
func TestIdleConnectionsComeBackByAnotherName(t *testing.T) {
	t.Parallel()
	const many = 40
	r := testclient.Start(t, byWeights(0.5, 0.1))
	r.WaitServing(1, 0)
	var conns []*testclient.Peer
	for range many {
		conns = append(conns, r.Dial())
	}
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	r.Change(func(s *plan.Settings) { s.Addr = "localhost:" + port })
	done := r.BeginUpgrade()
	for step, want := range []int{many / 2, many / 10} {
		r.AtStep(step)
		testutil.Until(t, patience, fmt.Sprint(want, " connections at the candidate"), func() bool { return testclient.Sides(t, conns)["g2"] == want })
		if step == 0 {
			r.GoOn()
		}
	}
	r.Ask("POST", "/abort")
	<-done
	testutil.Until(t, patience, "all are back", func() bool { return testclient.Sides(t, conns)["g1"] == many })
}

// A service that has opened an address as root, and now runs as another user, cannot replace the address by a wildcard. The
// error gives this reason.
func TestAddressOfAnotherUserStays(t *testing.T) {
	t.Parallel()
	r := dropping(t, func(*plan.Settings) {})
	r.WaitServing(1, 0)
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	r.Change(func(s *plan.Settings) { s.Addr = "0.0.0.0:" + port })
	r.MustFail("start", "was opened by another user")
	r.Change(func(s *plan.Settings) { s.Addr = "localhost:" + port })
	r.Upgrade()
}

// Clients of a unix socket see the pid and the user of the process that serves. But if the serving process belongs to another
// user than the opener of the socket, clients go on to see the opener, because they check the user.
func TestClientsSeeWhoServesOnAUnixSocket(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *testclient.Service{
		"one user":         func(t *testing.T) *testclient.Service { return testclient.Start(t, nil) },
		"drops its rights": func(t *testing.T) *testclient.Service { return dropping(t, func(*plan.Settings) {}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			r.WaitServing(1, 0)
			first := r.MainPID()
			r.Upgrade()
			r.WaitFamily(t, 1, patience)
			want := map[bool]int{true: r.MainPID(), false: first}[name == "one user"]
			c, err := net.Dial("unix", filepath.Join(r.Dir, "admin.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			raw, err := c.(*net.UnixConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			_ = raw.Control(func(fd uintptr) {
				cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
				if err != nil || int(cred.Pid) != want || int(cred.Uid) != os.Geteuid() {
					t.Errorf("%+v, %v, want the pid %d", cred, err, want)
				}
			})
		})
	}
}
