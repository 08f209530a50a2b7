//go:build !linux

package sdnotify

import (
	"errors"
	"os"
)

func isChannel(int) bool { return false }

func closeOnExec(int) {}

func socketPair() (a, b *os.File, err error) { return nil, nil, errors.ErrUnsupported }
