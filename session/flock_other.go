//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package session

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

const noFollow = 0

// tryLock needs flock.
func tryLock(*os.File) (bool, error) {
	return false, fmt.Errorf("flock on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
