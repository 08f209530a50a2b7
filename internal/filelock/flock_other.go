//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package filelock

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// NoFollow makes it an error to open a symbolic link, where the platform has such a flag.
const NoFollow = 0

// Try needs flock.
func Try(*os.File) (bool, error) {
	return false, fmt.Errorf("flock on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
