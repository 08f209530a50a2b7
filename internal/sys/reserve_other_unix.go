//go:build unix && !linux

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// newSpare opens a descriptor for a Reserve.
func newSpare() (int, error) { return unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) }
