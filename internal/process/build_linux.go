package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// BuildOf takes hold of what a process runs: the executable, whatever becomes of its file, with arguments and environment.
// The caller closes the build.
func BuildOf(pid int, version string) (*Build, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	exe, err := os.OpenFile(dir+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	args, err1 := zeroList(dir + "/cmdline")
	env, err2 := EnvironOf(pid)
	err = errors.Join(err1, err2)
	if err == nil && len(args) == 0 {
		err = errors.New("it has none, or is dead")
	}
	if err != nil {
		exe.Close()
		return nil, fmt.Errorf("arguments and environment of pid %d: %w", pid, err)
	}
	return &Build{Exe: exe, Args: args, Version: version, Env: env}, nil
}

const canRunDescriptor = true

// openSelf opens the file that this process runs. O_PATH needs no right to read it.
func openSelf() (*os.File, error) {
	return os.OpenFile("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
}

// executableOf leads to the file that a process runs.
func executableOf(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/exe" }

// descriptorPath names an open file for a child of this process, from its own view or from that of any process.
func descriptorPath(fd uintptr, everywhere bool) string {
	of := "self"
	if everywhere {
		of = strconv.Itoa(os.Getpid())
	}
	return "/proc/" + of + "/fd/" + strconv.Itoa(int(fd))
}
