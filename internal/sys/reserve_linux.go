package sys

import "golang.org/x/sys/unix"

// newSpare opens a descriptor for a Reserve: an eventfd. An eventfd counts for the machine's limit of open files like any other
// file. newSpare does not open a file by a path, because a program that monitors file access can make this slow.
func newSpare() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) }
