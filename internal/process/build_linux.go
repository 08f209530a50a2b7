package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BuildOf takes hold of what a process runs: the executable, whatever becomes of its file, with arguments and
// environment.
func BuildOf(pid int, version string) (*Build, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	exe, err := os.OpenFile(dir+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	args, err1 := ZeroList(dir + "/cmdline")
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

// EnvironOf returns the environment that a process was started with, if this process may read it.
func EnvironOf(pid int) ([]string, error) {
	return ZeroList("/proc/" + strconv.Itoa(pid) + "/environ")
}

// ZeroList reads strings that end with a zero byte.
func ZeroList(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(string(bytes.TrimSuffix(b, []byte{0})), "\x00"), nil
}

// canRunDescriptor: /proc lets an open file be executed, whatever became of its name.
const CanRunDescriptor = true

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

// RestoreName names this process after its program: one that was started from a descriptor is called by its number.
func RestoreName() {
	var name [16]byte
	if unix.Prctl(unix.PR_GET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0) != nil {
		return
	}
	if _, bad := strconv.Atoi(unix.ByteSliceToString(name[:])); bad == nil {
		_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	}
}

// Catches tells whether a process handles a signal, or would be ended by it. A Go program always seems to. True if it
// cannot be found out.
func Catches(pid int, sig syscall.Signal) bool {
	status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	_, mask, _ := strings.Cut(string(status), "\nSigCgt:")
	mask, _, _ = strings.Cut(mask, "\n")
	caught, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
	return err != nil || caught&(1<<(sig-1)) != 0
}
