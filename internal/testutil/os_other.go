//go:build !linux

package testutil

import (
	"os"
	"os/exec"
	"syscall"
)

// On other systems than Linux families, descriptors and children are unknown. The functions return nothing, so that the
// packages under test compile.

func ownSession() *syscall.SysProcAttr { return nil }

func killPID(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill() // fails if the process has ended
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

// reaper starts processes. It does not know their orphans.
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

// peeker reports every connection as idle and open.
type peeker struct{}

func (*peeker) watch(syscall.Conn) error { return nil }
func (*peeker) idle() (idle, stray bool) { return true, false }
