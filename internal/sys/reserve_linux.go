package sys

import "golang.org/x/sys/unix"

// newSpare makes a file that is held for nothing. An eventfd has no path to look up, which takes long where a monitor of file
// access is asked about each path. As a file of its own it counts for the limit of the machine like any other.
func newSpare() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) }
