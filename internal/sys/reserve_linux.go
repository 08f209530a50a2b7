package sys

import "golang.org/x/sys/unix"

// newSpare opens a descriptor for a Reserve: an eventfd. It is made without opening a path, which takes long if a program
// monitors file access, and counts for the machine's limit of open files like any other file.
func newSpare() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) }
