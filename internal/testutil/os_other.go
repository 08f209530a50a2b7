//go:build !linux

package testutil

import (
	"os"
	"os/exec"
	"syscall"
)

// What only Linux can tell is reported as none here, so that the packages under test compile everywhere.

func ownSession() *syscall.SysProcAttr { return nil }

func killPID(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill() // it may have ended by itself
	}
}

func familyPIDs(p *Proc) []int {
	select {
	case <-p.exited:
		return nil
	default:
		return []int{p.PID()}
	}
}

func pidsWith(string) []int { return nil }

// reaper starts processes; orphans stay unknown.
type reaper struct{}

var adopter reaper

func (reaper) start(cmd *exec.Cmd) error { return cmd.Start() }
func (reaper) settled(int) bool          { return true }
func (reaper) leave(int)                 {}

func descriptors() map[int]string    { return nil }
func childProcesses() map[int]string { return nil }

func killSelf() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill() // the process ends here
	}
}

func stopSelf() {}

// peeker believes that every idle connection is open.
type peeker struct{}

func (*peeker) watch(syscall.Conn) error { return nil }
func (*peeker) idle() (idle, stray bool) { return true, false }
