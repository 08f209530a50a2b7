//go:build unix && !linux

package process

import (
	"errors"
	"syscall"
)

func beSibling(*syscall.SysProcAttr, *int) bool { return false }

func holdSibling(int, int, func(int) <-chan string) (hold, error) { return nil, errors.ErrUnsupported }
