//go:build !linux

package pidfile

import (
	"errors"
	"os"
	"syscall"
)

// uidOf returns noUID, because the uid is not known here. ended reports whether the process has ended.
func uidOf(pid int) (uid int, ended bool) { return noUID, hasEnded(pid) }

// hasEnded reports whether there is no process with this pid.
func hasEnded(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return true
	}
	defer func() { _ = p.Release() }()
	return errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
