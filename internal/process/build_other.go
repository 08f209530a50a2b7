//go:build !linux

package process

import (
	"errors"
	"os"
	"syscall"
)

const canRunDescriptor = false

func openPath(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func openSelf() (*os.File, error) { return nil, errors.ErrUnsupported }

func executableOf(int) string { return "" }

func descriptorPath(uintptr, bool) string { return "" }

func restoreName() {}

func catches(int, syscall.Signal) bool { return true }

func parentName() string { return "" }

func hasEnded(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return true
	}
	defer func() { _ = p.Release() }()
	return errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
