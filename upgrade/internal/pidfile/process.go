package pidfile

import (
	"errors"
	"os"
	"syscall"
)

// hasEnded reports whether there is no process with the pid.
func hasEnded(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return true
	}
	defer func() { _ = p.Release() }()
	return errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
