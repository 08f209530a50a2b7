//go:build linux

package testservice

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// misbehaviour is how a generation fails. Each field is the stage at which the function is called; a nil function is the
// good behaviour.
type misbehaviour struct {
	first  bool // the first generation misbehaves, and those that were upgraded to do not
	all    bool // every generation misbehaves
	pinned bool // the main listener is opened by ListenPinned

	start   func()                                                  // before upgrade.New
	restore func(times int) error                                   // in UnmarshalBinary, for the times-th time
	open    func(path string)                                       // before a unix socket is opened, but the admin socket
	end     func(path string)                                       // for the path of the main listener, after Run
	listen  func(s *service, ln net.Listener) (net.Listener, error) // with the open main listener
	check   func(ctx context.Context, s *service) error             // in the check
	acquire func(resource string) error                             // in Acquire of an exclusive resource
	serve   func(ctx context.Context, s *service) error             // before the servers start
	request func(s *service) (status int)                           // for each every-th request while the file "bad" is there
	every   int64
}

// misbehaviours has every misbehaviour.
var misbehaviours = map[plan.Misbehaviour]misbehaviour{
	plan.ExitAtStart:    {start: func() { os.Exit(7) }},
	plan.HangAtStart:    {start: func() { select {} }},
	plan.InspectAtStart: {start: inspect},
	plan.JoinsOldGroup:  {start: joinOldGroup},
	plan.OwnSession:     {start: beginSession},
	plan.LeavesHelper:   {start: leaveHelper},
	plan.WaitsAtStart:   {start: func() { waitFor(filepath.Join(os.Getenv(plan.DirEnv), "release")) }},
	plan.ExitsOfKeeper:  {start: func() { leaveKeeper(); os.Exit(7) }},
	plan.StealsSockets:  {start: stealSockets},
	plan.FewFiles:       {start: haveFewFiles},
	plan.OnlyReady:      {start: onlyReady},
	plan.ExitsOfHelper:  {start: func() { leaveHelper(); os.Exit(7) }},

	plan.ListenFails:          {listen: listenNowhere},
	plan.ListenMore:           {listen: listenMore},
	plan.ListenMoreCheckFails: {listen: listenMore, check: fail("the database is not there")},
	plan.ListenPinned:         {pinned: true},
	plan.FirstReopens:         {first: true, listen: reopen(1)},
	plan.FirstReopensTwice:    {first: true, listen: reopen(2)},

	plan.RemovesPaths:           {all: true, open: removePath},
	plan.RemovesPathsCheckFails: {open: removePath, check: fail("the database is not there")},
	plan.RemovesPathAtEnd:       {all: true, end: removePath},

	plan.CleansUp: {all: true, end: cleanUp},

	plan.CheckFails:    {check: fail("the database is not there")},
	plan.CheckFailLong: {check: fail(strings.Repeat("x", 40<<10))},
	plan.CheckPanics:   {check: func(context.Context, *service) error { panic("nil map") }},
	plan.CheckHangs:    {check: waitForEnd},
	plan.CheckWaits:    {check: waitForRelease},
	plan.CheckCrashes:  {check: crashMeanwhile},
	plan.CheckDropUser: {check: dropUser},

	plan.RefuseValue:         {restore: refuseFrom(1)},
	plan.RefuseValueAtCommit: {restore: refuseFrom(2)},
	plan.ValueHangsAtCommit:  {restore: hangFrom(2)},
	plan.AcquireFails:        {acquire: refuse("lock", "the volume is not there")},
	plan.AcquireSecondFails:  {acquire: refuse("second", "the second one is not to be had")},

	plan.ServeFails:     {serve: fail("the server does not start")},
	plan.FirstChurns:    {first: true, serve: func(ctx context.Context, s *service) error { go churn(ctx, s); return nil }},
	plan.RequestsFail:   {request: func(*service) int { return http.StatusInternalServerError }, every: 5},
	plan.RequestsPanic:  {request: func(*service) int { panic("this release is bad") }, every: 10},
	plan.ExitsInRequest: {request: exitInRequest, every: 1},
}

// misbehave returns the misbehaviour of a generation.
func misbehave(how plan.Misbehaviour, upgraded bool) misbehaviour {
	if m := misbehaviours[how]; m.all || m.first != upgraded {
		return m
	}
	return misbehaviour{}
}

// inspect exits with 9 if a connection was inherited, and with 7 if none was.
func inspect() {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, e := range fds {
		fd, _ := strconv.Atoi(e.Name())
		kind, _ := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
		if _, err := syscall.Getpeername(fd); err == nil && kind == syscall.SOCK_STREAM {
			os.Exit(9)
		}
	}
	os.Exit(7)
}

func listenNowhere(s *service, ln net.Listener) (net.Listener, error) {
	_, err := s.up.Listen("tcp", "127.0.0.1:99999")
	return ln, err
}

func listenMore(s *service, ln net.Listener) (net.Listener, error) { return ln, s.greet("new.sock") }

// removePath does what most programs do, for the path that a process has left which was killed.
func removePath(path string) { _ = os.Remove(path) }

// cleanUp does what a program has to do after Run.
func cleanUp(string) {
	dir, pid := os.Getenv(plan.DirEnv), strconv.Itoa(os.Getpid())
	writeTime(dir, "cleaning"+pid)
	time.Sleep(300 * time.Millisecond) // this is the work
	writeTime(dir, "cleaned"+pid)
}

// reopen closes and opens the listener, the given number of times.
func reopen(times int) func(*service, net.Listener) (net.Listener, error) {
	return func(s *service, ln net.Listener) (net.Listener, error) {
		var err error
		for range times {
			addr := ln.Addr()
			ln.Close()
			if ln, err = s.up.Listen(addr.Network(), addr.String()); err != nil {
				return nil, err
			}
		}
		return ln, nil
	}
}

func fail(reason string) func(context.Context, *service) error {
	return func(context.Context, *service) error { return errors.New(reason) }
}

func waitForEnd(ctx context.Context, _ *service) error {
	<-ctx.Done()
	return ctx.Err()
}

// waitForRelease waits until the test makes the file "release".
func waitForRelease(ctx context.Context, s *service) error {
	fmt.Fprintln(os.Stderr, plan.SaysCheckWaits)
	for ctx.Err() == nil {
		if exists(filepath.Join(s.dir, "release")) {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // this is the work
	}
	return ctx.Err()
}

func crashMeanwhile(ctx context.Context, _ *service) error {
	go func() { panic("a bug in the new release") }()
	<-ctx.Done()
	return nil
}

// dropUser gives up root, and with that its capabilities.
func dropUser(context.Context, *service) error { return syscall.Setuid(plan.Stranger) }

// refuseFrom refuses a kept value from the n-th time on.
func refuseFrom(n int) func(times int) error {
	return func(times int) error {
		if times >= n {
			return errors.New("not in this shape")
		}
		return nil
	}
}

// hangFrom is a value that is not restored the n-th time, and never says so.
func hangFrom(n int) func(times int) error {
	return func(times int) error {
		if times >= n {
			fmt.Fprintln(os.Stderr, plan.SaysUnmarshalHangs)
			select {}
		}
		return nil
	}
}

// refuse refuses an exclusive resource.
func refuse(resource, reason string) func(string) error {
	return func(wanted string) error {
		if wanted == resource {
			return errors.New(reason)
		}
		return nil
	}
}

// churn closes listeners all the time, and opens connections, which may get the numbers of the listeners.
func churn(ctx context.Context, s *service) {
	for ctx.Err() == nil {
		var open [8]net.Listener
		var conns [len(open)]net.Conn
		var errs [2 * len(open)]error
		for i := range open {
			open[i], errs[i] = s.up.Listen("tcp", "127.0.0.1:0")
		}
		for i, ln := range open {
			if ln != nil {
				ln.Close()
			}
			conns[i], errs[len(open)+i] = net.Dial("unix", filepath.Join(s.dir, "admin.sock"))
		}
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		if err := errors.Join(errs[:]...); err != nil {
			fmt.Fprintln(os.Stderr, "churn:", err)
			return
		}
	}
}

func exitInRequest(s *service) int {
	writeTime(s.dir, "exited")
	os.Exit(7)
	return 0
}
