package process

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const canRunDescriptor = true

// openPath opens a file that is to be executed. O_PATH needs no right to read the file.
func openPath(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
}

// openSelf opens the file that this process runs. O_PATH needs no right to read the file.
func openSelf() (*os.File, error) {
	return os.OpenFile("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
}

// executableOf returns a path by which the executable of a process can be opened.
func executableOf(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/exe" }

// descriptorPath returns a path that leads to an open file with the descriptor fd. If everywhere is true, fd is a descriptor of
// this process, and any process may use the path. If everywhere is false, the path leads to the descriptor fd of the process
// that uses the path, such as a child that has inherited the file.
func descriptorPath(fd uintptr, everywhere bool) string {
	of := "self"
	if everywhere {
		of = strconv.Itoa(os.Getpid())
	}
	return "/proc/" + of + "/fd/" + strconv.Itoa(int(fd))
}
