//go:build linux

package upgrade_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// listening lists the listening sockets that a process holds, and counts its other sockets.
func listening(t *testing.T, pid int) (listeners []string, others int) {
	t.Helper()
	inodes := listeningInodes(t)
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("descriptors of %d: %v", pid, err)
	}
	for _, fd := range fds {
		switch to, _ := os.Readlink(fd); { // it may be closed by now
		case inodes[to]:
			listeners = append(listeners, filepath.Base(fd))
		case strings.HasPrefix(to, "socket:"):
			others++
		}
	}
	return listeners, others
}

// Between exec and upgrade.New a build with the library has no listening socket and one other socket, the control socket. This
// holds for an upgrade, for a verified file, and for a rollback.
func TestListenersBelongToNobodyUntilNew(t *testing.T) {
	t.Parallel()
	for name, verify := range map[string]plan.Verification{"upgrade": "", "verified": plan.VerifyPasses, "rollback": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Verify = verify })
			path := "/upgrade"
			r.Release("another")
			if name == "rollback" {
				r.Upgrade()
				r.Release("a third")
				r.Upgrade()
				path = "/rollback"
			}
			if mine, _ := listening(t, r.MainPID()); len(mine) < 4 { // the service has two listeners, and a duplicate of each
				t.Fatalf("the service has the listening sockets %q", mine)
			}
			r.Change(func(s *plan.Settings) { s.Bad = plan.HangAtStart })
			done := r.Begin(t.Context(), path)
			r.WaitPhase("start")
			testutil.Until(t, patience, "the candidate is started", func() bool {
				c := r.Status().Candidate
				return c != nil && c.PID != 0
			})
			candidate := r.Candidate()
			if held, others := listening(t, candidate); len(held) > 0 || others != 1 {
				t.Errorf("the candidate has the listening sockets %q, and %d others", held, others)
			}
			if files := links(candidate); strings.Contains(files, "/svc") { // a file in the directory of the service
				t.Errorf("the candidate has the files\n%s", files)
			}
			r.Ask("POST", "/abort")
			<-done
			r.Change(func(s *plan.Settings) { s.Bad = "" })
			r.Upgrade()
		})
	}
}

// script writes a wrapper. The wrapper starts a helper, which inherits all descriptors, and notes the pid of the helper. Then
// the wrapper executes the program.
func script(t *testing.T, r *testclient.Service, program string) {
	t.Helper()
	lines := []string{"#!/bin/sh", "sleep 300 &", "echo $! >" + filepath.Join(r.Dir, "helper"), "exec " + program + ` "$@"`, ""}
	put(t, r, "wrapper", 0o755, []byte(strings.Join(lines, "\n")))
}

// A process that a wrapper starts gets the listening sockets only if the program allows wrappers. The log then names the holder
// of the sockets and the time. Without this permission the wrapper is not started at all.
func TestHelperOfAWrapperHoldsListenersIfAllowed(t *testing.T) {
	t.Parallel()
	for _, allowed := range []bool{false, true} {
		t.Run(fmt.Sprint("allowed ", allowed), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.AllowWrapper = allowed })
			script(t, r, testclient.Binary(t))
			if !allowed {
				mustRefuse(t, r, "is a script and would hold the listening sockets from its start")
				if exists(filepath.Join(r.Dir, "helper")) {
					t.Error("the wrapper was started")
				}
				return
			}
			r.Upgrade()
			helper, err := strconv.Atoi(strings.TrimSpace(r.Read("helper")))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(helper, syscall.SIGKILL) })
			if held, _ := listening(t, helper); len(held) != 2 {
				t.Errorf("the helper has the listening sockets %q", held)
			}
			r.MustSay("holds them from now on executable=" + filepath.Join(r.Dir, "exe"))
			r.MustSay("sockets=2 since=")
		})
	}
}

// A program of each kind takes over if the options for it are set, and is refused if one of them is missing. A rollback needs
// no option, even to a build without the mark of the library.
func TestEachKindOfFileNeedsItsOptions(t *testing.T) {
	t.Parallel()
	none, all := [2]bool{}, [2]bool{true, true}
	for _, c := range []struct {
		name                string
		wrapped, packed, is bool    // is: the program uses tableflip only
		allow               [2]bool // AllowWrapper, AllowPlain
		refused             string  // "": the program takes over
	}{
		{"library", false, false, false, none, ""},
		{"packed library", false, true, false, none, "and would hold the listening sockets from its start"},
		{"packed library, allowed", false, true, false, [2]bool{true, false}, ""},
		{"script", true, false, false, [2]bool{false, true}, "is a script"},
		{"script, allowed", true, false, false, [2]bool{true, false}, ""},
		{"tableflip", false, true, true, [2]bool{true, false}, "knows tableflip only, and accepts before it is committed"},
		{"tableflip, allowed", false, true, true, all, ""},
		{"script of tableflip", true, true, true, [2]bool{false, true}, "is a script"},
		{"script of tableflip, as a wrapper", true, true, true, [2]bool{true, false}, "knows tableflip only, and accepts before it is committed"},
		{"script of tableflip, allowed", true, true, true, all, ""},
		{"marked, and takes nothing", false, false, true, all, "is ready without the 2 that wait for it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.Sample(t)
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				s.AllowWrapper, s.AllowPlain, s.AbortGrace = c.allow[0], c.allow[1], time.Second
			})
			l := r.Load(smallLoad)
			r.Change(func(s *plan.Settings) { s.Plain, s.AllowWrapper, s.AllowPlain = c.is, false, false })
			program := testclient.Binary(t)
			if c.packed {
				program = testclient.Unmarked(t)
			}
			if r.LinkTo(program); c.wrapped {
				script(t, r, program)
				t.Cleanup(func() { killHelper(t, r) })
			}
			a := r.Ask("POST", "/upgrade")
			if (c.refused == "") != a.Committed || !strings.Contains(a.Reason, c.refused) {
				t.Fatalf("upgrade: committed %v: %s", a.Committed, a.Reason)
			}
			if c.is {
				return // the service can be asked nothing more: it has ended, or the path of its admin socket is removed
			}
			if a.Committed && c.packed {
				r.Release("next")
				r.Upgrade()
				r.Rollback()
				r.MustRun("unmarked")
				r.MustSay("holds them from now on executable=\"the earlier build\"")
			}
			r.LinkTo(testclient.Binary(t))
			r.Upgrade()
			r.Account(l).MustBeClean(t)
		})
	}
}

// killHelper ends the helper that the wrapper of script has started.
func killHelper(t *testing.T, r *testclient.Service) {
	t.Helper()
	b, _ := os.ReadFile(filepath.Join(r.Dir, "helper")) // the helper was perhaps not started
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// If the old process is killed before a candidate has called upgrade.New, the sockets in the control socket stay open. Clients
// that connect in the meantime are not refused: they wait, and are answered by the candidate, which becomes the service. A
// socket that the candidate does not open is closed then, and its path is removed.
func TestQueuedListenersOutliveTheOldProcess(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad, s.Many = plan.WaitsAtStart, 1 })
	r.Change(func(s *plan.Settings) { s.Many = 0 })
	old := r.MainPID()
	gone := r.BeginUpgrade()
	testutil.Until(t, patience, "the candidate is started", func() bool {
		c := r.Status().Candidate
		return c != nil && c.PID != 0
	})
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-gone
	testutil.Until(t, patience, "the old process is dead", func() bool { return testclient.Gone(old) })
	var waiting []*testclient.Peer
	for range 50 {
		waiting = append(waiting, r.Connect())
	}
	r.Touch("release")
	for _, p := range waiting {
		p.Ask("/work")
	}
	testutil.Until(t, patience, "the candidate serves", func() bool { return r.ServesWithout(old) })
	testutil.Until(t, patience, "the path that nobody serves on is gone", func() bool { return !exists(filepath.Join(r.Dir, "0")) })
	r.Change(func(s *plan.Settings) { s.Bad = "" })
	r.Upgrade()
}

// More listeners than fit into one message are all passed on, and no other process is left with a descriptor of a listener.
func TestManyListenersPassOn(t *testing.T) {
	t.Parallel()
	const many = 600
	r := testclient.Start(t, func(s *plan.Settings) { s.Many = many })
	for range 2 {
		r.Upgrade()
		r.WaitFamily(t, 1, patience)
		mustGreet(t, r, many)
	}
	if held, _ := listening(t, r.MainPID()); len(held) != 2*(many+2) {
		t.Errorf("the service holds %d descriptors of %d listening sockets", len(held), many+2)
	}
	r.SignalMain(syscall.SIGTERM)
	r.WaitFamily(t, 0, patience)
	if exists(filepath.Join(r.Dir, "0")) || exists(filepath.Join(r.Dir, "599")) {
		t.Error("the path of a socket is left")
	}
}

// mustGreet fails the test if one of the many listeners does not answer.
func mustGreet(t *testing.T, r *testclient.Service, many int) {
	t.Helper()
	for n := range many {
		c, err := net.Dial("unix", filepath.Join(r.Dir, strconv.Itoa(n)))
		if err == nil {
			err = c.SetReadDeadline(time.Now().Add(patience))
		}
		if err == nil {
			if _, err = c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
				err = nil
			}
			c.Close()
		}
		if err != nil {
			t.Fatalf("listener %d: %v", n, err)
		}
	}
}

// If the old process dies after a part of many listeners has come, the candidate serves on this part, and opens the other
// listeners anew.
func TestOldProcessMayDieBetweenTwoPartsOfTheListeners(t *testing.T) {
	t.Parallel()
	const many = 300
	f := testclient.FaultAt(t, "old.taken", "kill")
	r := testclient.Start(t, func(s *plan.Settings) { s.Many = many }, f.Env)
	old := r.MainPID()
	<-r.BeginUpgrade()
	testutil.Until(t, patience, "the candidate serves", func() bool { return r.ServesWithout(old) })
	mustGreet(t, r, many)
	r.MustSay("has died before all of its listening sockets had come")
	r.Upgrade()
	mustGreet(t, r, many)
}

// A candidate that does not receive all listening sockets is refused. The error has both numbers and the remedy, and the
// service goes on. The sockets are missing because the candidate has no room for descriptors, or because another process has
// read a message.
func TestMissingListenersAreCounted(t *testing.T) {
	t.Parallel()
	for bad, want := range map[plan.Misbehaviour]string{
		plan.FewFiles: " of the 52 listening sockets that were passed on: raise its limit of open files", plan.StealsSockets: "it has 0 of the 52 listening sockets",
	} {
		t.Run(string(bad), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Many, s.Bad = 50, bad })
			l := r.Load(smallLoad)
			r.MustFail("start", want)
			r.MustRecover(l, 1)
			r.Account(l).MustBeClean(t)
		})
	}
}

// If a candidate has died, the sockets in its control socket are closed, although a helper of the candidate keeps the control
// socket open. So no socket queues clients after the service has ended.
func TestQueueOfADeadCandidateIsEmptied(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.ExitsOfKeeper })
	began := time.Now()
	a := r.Ask("POST", "/upgrade")
	if a.Committed || a.Phase != "start" || !strings.Contains(a.Reason, "exit status 7") {
		t.Errorf("upgrade: %+v", a)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	service := r.MainPID()
	r.Signal(syscall.SIGTERM)
	if _, err := r.Wait(patience); err != nil {
		t.Fatal(err)
	}
	helpers := r.Family()
	if c, err := net.Dial("tcp", r.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody queues clients: %v, %v", c, err)
	}
	if len(helpers) != 1 || helpers[0] == service {
		t.Errorf("the processes %v live, and not only the helper", helpers)
	}
	for _, pid := range helpers {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	r.WaitFamily(t, 0, patience)
}

// If too many descriptors of the user are in transit, the kernel refuses to send more. Then the upgrade fails with the reason
// and the remedy, and the service goes on. This test is not run in parallel, because the descriptors in transit of other tests
// count, too.
func TestTooManyDescriptorsOnTheirWay(t *testing.T) {
	setpriv := testutil.Program(t, "setpriv", "util-linux")
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root has rights that can be taken away")
	}
	r := testclient.StartBy(t, func(s *plan.Settings) { s.NoFile = 100 }, func(r *testclient.Service) *testutil.Proc {
		return testutil.StartCommand(t, testutil.Cfg{Env: []string{r.Env(), "MIDAIR_TEST_ROLE=service"}},
			setpriv, "--bounding-set=-sys_resource,-sys_admin", "--inh-caps=-sys_resource,-sys_admin", testclient.Binary(t))
	})
	l := r.Load(smallLoad)
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	rights := unix.UnixRights(slices.Repeat([]int{0}, 200)...)
	if err := unix.Sendmsg(int(sys.FD(ours)), []byte("x"), rights, nil, 0); err != nil {
		t.Fatal(err)
	}
	r.MustFail("start", "pass 2 of 2 listening sockets on: sendmsg: too many references: cannot splice: raise the limit of open files")
	theirs.Close()
	r.MustRecover(l, 1)
	r.Account(l).MustBeClean(t)
}

// links returns the names of the open files of a process.
func links(pid int) (all string) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fd) // it may be closed by now
		all += filepath.Base(fd) + " " + to + "\n"
	}
	return all
}
