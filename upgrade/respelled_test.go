//go:build linux

package upgrade_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
	"golang.org/x/sys/unix"
)

// A release may spell its address in another way, or listen on a wildcard in place of an address, and the way back: no request is lost,
// and the port does not change. After a crash the service is back at each of them.
func TestAddressMayBeSpelledInAnotherWay(t *testing.T) {
	for processes, supervision := range withAndWithout {
		t.Run(fmt.Sprint(processes, " processes"), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, supervision)
			r.WaitServing(1, 0)
			_, port, err := net.SplitHostPort(r.Addr)
			if err != nil {
				t.Fatal(err)
			}
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
			for _, host := range []string{"127.0.0.1", "[::]", "0.0.0.0", "localhost"} {
				r.Change(func(s *plan.Settings) { s.Addr = host + ":" + port })
				dead := r.MainPID()
				r.SignalMain(syscall.SIGKILL)
				mustBeOneService(t, r, dead)
				if _, by := r.Post("/add"); by == "" {
					t.Errorf("%q: nobody answers", host)
				}
			}
		})
	}
}

// A service that has opened its address as root cannot listen on a wildcard beside that as another user. The reason says so.
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

// Clients of a unix socket see the process that serves, unless that is another user than the one who opened the socket: then they go on
// to see that one, which is what they check.
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
