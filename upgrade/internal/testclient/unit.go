//go:build linux

package testclient

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// UnitFile is what the unit of a service says, in systemd's words.
type UnitFile struct {
	Access string   // NotifyAccess=, main or all; empty: Type=simple, where the service has no notify socket
	Stores int      // FileDescriptorStoreMax=
	Env    []string // Environment=
}

// Unit is a service of a manager that knows parents, as systemd 252 to 257 does: with Type=notify-reload and
// KillMode=control-group. Who may speak is decided by the pid that the kernel attests. When a process becomes the main
// process, the manager looks, this once, whether the process is a child of its own. The end of a child is noticed at once,
// and a stop waits for a child. Of an alien main process neither is true.
type Unit struct {
	*Service
	Manager *Manager
	file    UnitFile

	// Under the lock of the manager:
	proc   *testutil.Proc // started by the manager; all processes of the unit are its family
	main   int            // pid of the main process
	alien  bool           // the main process is no child of the manager
	state  unitState
	ready  bool  // READY=1 was received since the start
	asked  int64 // when the reload under way was asked for, by CLOCK_MONOTONIC in microseconds; 0: there is none
	begins bool  // RELOADING=1 was received for it
}

type unitState int

const (
	unitRunning unitState = iota
	unitStopping
	unitStopped
	unitFailed // the main process has ended, and nobody has stopped the unit
)

// unitLimit is TimeoutStopSec= of a unit that has failed.
const unitLimit = 5 * time.Second

// StartUnit starts a service under a manager of its own, and waits until the service serves.
func StartUnit(t *testing.T, file UnitFile, change func(*plan.Settings)) *Unit {
	t.Helper()
	u := &Unit{Manager: NewManager(t), file: file}
	u.Manager.unit = u
	u.Service = u.Manager.Start(change, nil, file.Env...)
	return u
}

// begin notes the process that the manager has started.
func (u *Unit) begin(p *testutil.Proc) {
	u.proc, u.state, u.ready = p, unitRunning, false
	u.follow(p.PID())
}

// follow makes a process the main process.
func (u *Unit) follow(pid int) {
	u.main, u.alien = pid, parentOf(pid) != os.Getpid()
	if u.alien {
		return
	}
	h, err := process.Open(pid)
	if err != nil {
		u.Manager.t.Errorf("main process %d: %v", pid, err) // a child that nobody has waited for yet
		return
	}
	u.Manager.watching.Go(func() { // ends with the process, which the end of the test kills
		_ = h.Wait()
		h.Close()
		u.Manager.catchUp() // what was said before is heard before, as systemd does
		u.ended(pid)
	})
}

// ended handles the end of a child that was the main process: what is left of the unit is ended too.
func (u *Unit) ended(pid int) {
	u.Manager.mu.Lock()
	failed := u.main == pid && u.state == unitRunning
	if failed {
		u.main, u.state = 0, unitFailed
	}
	proc := u.proc
	u.Manager.mu.Unlock()
	if failed {
		_ = end(proc, 0, false, unitLimit)
	}
}

// heard handles a message, and reports whether the sender may speak.
func (u *Unit) heard(d Datagram) bool {
	if d.PID != u.main && u.file.Access != "all" {
		return false
	}
	if pid, err := strconv.Atoi(field(d.Text, "MAINPID=")); err == nil && pid != u.main && !Gone(pid) { // systemd refuses a zombie
		u.follow(pid)
	}
	lines := strings.Split(d.Text, "\n")
	since, _ := strconv.ParseInt(field(d.Text, "MONOTONIC_USEC="), 10, 64)
	switch {
	case slices.Contains(lines, "RELOADING=1") && since >= u.asked:
		u.begins = true
	case slices.Contains(lines, "READY=1"):
		if u.ready = true; u.begins {
			u.asked, u.begins = 0, false
		}
	}
	return true
}

// Reload is "systemctl reload": HUP to the main process, which has to say RELOADING=1 after that, and READY=1 then.
func (u *Unit) Reload(limit time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	u.Manager.mu.Lock()
	u.asked, u.begins = now.Nano()/1000, false
	if u.main != 0 {
		_ = syscall.Kill(u.main, syscall.SIGHUP) // it may have ended
	}
	u.Manager.mu.Unlock()
	over := testutil.Within(limit, func() bool { return !u.Asked() || !u.Runs() })
	switch {
	case !u.Runs():
		return errors.New("the main process has ended")
	case !over:
		return fmt.Errorf("not reloaded after %v", limit)
	}
	return nil
}

// Asked reports whether a reload is under way, whose HUP was sent.
func (u *Unit) Asked() bool {
	u.Manager.mu.Lock()
	defer u.Manager.mu.Unlock()
	return u.asked != 0
}

// Runs reports whether the main process lives, as far as the manager knows.
func (u *Unit) Runs() bool {
	u.Manager.mu.Lock()
	defer u.Manager.mu.Unlock()
	return u.state == unitRunning
}

// Main is the pid of the main process, as far as the manager knows.
func (u *Unit) Main() int {
	u.Manager.mu.Lock()
	defer u.Manager.mu.Unlock()
	return u.main
}

// Stop is "systemctl stop" with TimeoutStopSec=limit. The error is that a process was killed, or the status of the service.
func (u *Unit) Stop(limit time.Duration) error {
	err := u.stop(limit)
	u.Manager.mu.Lock()
	defer u.Manager.mu.Unlock()
	for name, f := range u.Manager.store {
		f.Close()
		delete(u.Manager.store, name)
	}
	return err
}

// Restart is "systemctl restart": a stop that keeps the store, and a start, which is over with READY=1.
func (u *Unit) Restart(limit time.Duration) error {
	u.t.Helper()
	err := u.stop(limit)
	u.Start()
	return err
}

// Start starts the service again with what is in the store.
func (u *Unit) Start() {
	u.t.Helper()
	u.Proc = u.Manager.Launch(u.Service, nil, u.file.Env...)
	testutil.Until(u.t, Patience, "the unit is ready", func() bool {
		u.Manager.mu.Lock()
		defer u.Manager.mu.Unlock()
		return u.ready
	})
}

func (u *Unit) stop(limit time.Duration) error {
	u.Manager.mu.Lock()
	proc, main, alien := u.proc, u.main, u.alien
	u.state = unitStopping
	u.Manager.mu.Unlock()
	err := end(proc, main, alien, limit)
	if main == proc.PID() && err == nil {
		if code, waited := proc.Wait(Patience); code != 0 {
			err = errors.Join(waited, fmt.Errorf("the main process has ended with status %d", code))
		}
	}
	u.Manager.mu.Lock()
	u.main, u.state = 0, unitStopped
	u.Manager.mu.Unlock()
	return err
}

// end ends all processes of a unit: by TERM, the main process first, and by KILL after the limit. Without another process
// than an alien main process there is nobody to wait for.
func end(proc *testutil.Proc, main int, alien bool, limit time.Duration) error {
	others := slices.DeleteFunc(proc.Family(), func(pid int) bool { return pid == main })
	for _, pid := range append([]int{main}, others...) {
		if pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended
		}
	}
	waits := main != 0 && !alien || len(others) > 0
	if waits && testutil.Within(limit, func() bool { return len(proc.Family()) == 0 }) {
		return nil
	}
	left := proc.Family()
	for _, pid := range left {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("killed: %v, of which %d is the main process, no child of the manager: %v", left, main, alien)
}
