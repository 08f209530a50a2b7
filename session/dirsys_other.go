//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package session

import (
	"errors"
	"os"
)

type rawFile = *os.File

func openRaw(name string, flag int) (rawFile, error) { return os.OpenFile(name, flag, 0o600) }

// tryLock needs flock.
func tryLock(string) (lock rawFile, held bool, err error) { return nil, false, errors.ErrUnsupported }
