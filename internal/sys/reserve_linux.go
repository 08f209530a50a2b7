package sys

import "golang.org/x/sys/unix"

// newSpare opens a descriptor for a Reserve: an eventfd. An eventfd counts for the machine's limit of open files like any other
// file. newSpare opens no path, because this would take long if a program monitors file access.
func newSpare() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) }
