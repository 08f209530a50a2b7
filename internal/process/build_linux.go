package process

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const canRunDescriptor = true

// openPath opens a file to be executed, without the right to read the file.
func openPath(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
}

// openSelf opens the file that this process runs. O_PATH needs no right to read the file.
func openSelf() (*os.File, error) {
	return os.OpenFile("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
}

// executableOf leads to the file that a process runs.
func executableOf(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/exe" }

// descriptorPath names an open file for a child of this process, from the child's own view or from the view of any process.
func descriptorPath(fd uintptr, everywhere bool) string {
	of := "self"
	if everywhere {
		of = strconv.Itoa(os.Getpid())
	}
	return "/proc/" + of + "/fd/" + strconv.Itoa(int(fd))
}
