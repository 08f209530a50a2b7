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

// UnitFile is the settings in the unit file of a service, by systemd's names.
type UnitFile struct {
	Access string   // NotifyAccess=, main or all; empty: Type=simple, where the service has no notify socket
	Stores int      // FileDescriptorStoreMax=
	Env    []string // Environment=
}

// Unit is a service of a manager that behaves as systemd 252 to 257, with Type=notify-reload and KillMode=control-group. The
// manager decides by the pid of the sender, which comes from the kernel, whether it accepts a message. When a process becomes
// the main process, the manager checks, only this once, whether the process is a child of the manager. If it is, the manager
// notices the end of the process at once, and a stop waits for this end. An alien main process is no child: the manager does
// not notice its end, and a stop does not wait for it.
type Unit struct {
	*Service
	Manager *Manager
	file    UnitFile

	// The lock of the manager protects these fields:
	proc   *testutil.Proc // the process that the manager has started; its family is all processes of the unit
	main   int            // the pid of the main process
	alien  bool           // the main process is no child of the manager
	state  unitState
	ready  bool  // READY=1 was received since the start
	asked  int64 // when Reload has asked for the reload that is under way, by CLOCK_MONOTONIC in microseconds; 0: no reload
	begins bool  // RELOADING=1 was received for this reload
}

type unitState int

const (
	unitRunning unitState = iota
	unitStopping
	unitStopped
	unitFailed // the main process has ended without a stop of the unit
)

// unitLimit is how long the processes that are left may take to end after a unit has failed, before they are killed.
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
		u.Manager.t.Errorf("main process %d: %v", pid, err) // cannot happen: the child was not reaped yet
		return
	}
	u.Manager.watching.Go(func() { // ends with the process, which the end of the test kills
		_ = h.Wait()
		h.Close()
		u.Manager.catchUp() // as in systemd, messages that were sent before the end are handled first
		u.ended(pid)
	})
}

// ended handles the end of a child of the manager. If the child was the main process, the unit has failed, and its other
// processes are ended too.
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

// accept handles a message, and reports whether the manager accepts messages of the sender.
func (u *Unit) accept(d Datagram) bool {
	if d.PID != u.main && u.file.Access != "all" {
		return false
	}
	// systemd refuses a zombie as the main process.
	if pid, err := strconv.Atoi(field(d.Text, "MAINPID=")); err == nil && pid != u.main && !Gone(pid) {
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

// Reload is "systemctl reload": the manager sends SIGHUP to the main process, which has to answer with RELOADING=1 and then
// READY=1.
func (u *Unit) Reload(limit time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	u.Manager.mu.Lock()
	u.asked, u.begins = now.Nano()/1000, false
	if u.main != 0 {
		_ = syscall.Kill(u.main, syscall.SIGHUP) // fails if the process has ended
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

// Asked reports whether a reload is under way: SIGHUP was sent, and the reload has not ended.
func (u *Unit) Asked() bool {
	u.Manager.mu.Lock()
	defer u.Manager.mu.Unlock()
	return u.asked != 0
}

// Runs reports whether the unit runs: no stop has begun, and the manager has not noticed an end of the main process.
func (u *Unit) Runs() bool {
	u.Manager.mu.Lock()
	defer u.Manager.mu.Unlock()
	return u.state == unitRunning
}

// Main returns the pid of the process that the manager takes for the main process.
func (u *Unit) Main() int {
	u.Manager.mu.Lock()
	defer u.Manager.mu.Unlock()
	return u.main
}

// Stop is "systemctl stop" with TimeoutStopSec=limit. Stop returns an error if a process had to be killed, or if the exit
// status of the service is not 0.
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

// Restart is "systemctl restart": a stop after which the store stays, and a start, which ends with READY=1.
func (u *Unit) Restart(limit time.Duration) error {
	u.t.Helper()
	err := u.stop(limit)
	u.Start()
	return err
}

// Start starts the service again with the sockets in the store, and waits for READY=1.
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

// end ends all processes of a unit: by SIGTERM, which the main process is sent first, and by SIGKILL after the limit. If an
// alien main process is the only process, end does not wait before SIGKILL.
func end(proc *testutil.Proc, main int, alien bool, limit time.Duration) error {
	others := slices.DeleteFunc(proc.Family(), func(pid int) bool { return pid == main })
	for _, pid := range append([]int{main}, others...) {
		if pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM) // fails if the process has ended
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
