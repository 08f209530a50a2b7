package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func restoreName() {
	var name [16]byte
	if unix.Prctl(unix.PR_GET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0) != nil {
		return
	}
	if _, bad := strconv.Atoi(unix.ByteSliceToString(name[:])); bad == nil {
		_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	}
}

func catches(pid int, sig syscall.Signal) bool {
	status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	_, mask, _ := strings.Cut(string(status), "\nSigCgt:")
	mask, _, _ = strings.Cut(mask, "\n")
	caught, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
	return err != nil || caught&(1<<(sig-1)) != 0
}

func parentName() string {
	name, _ := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/comm")
	return strings.TrimSpace(string(name))
}

// hasEnded is called while clients wait, so it does not use os.FindProcess. At its first call os.FindProcess forks, to find out
// whether the kernel supports pidfds.
func hasEnded(pid int) bool { return unix.Kill(pid, 0) == unix.ESRCH || isZombie(pid) }

// isZombie reports whether all threads of a process have ended. The first thread may end before the others: it is a zombie then
// too, but the process may still have open files.
func isZombie(pid int) bool {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	status := string(b)
	return strings.Contains(status, "\nState:\tZ") && strings.Contains(status, "\nThreads:\t1\n")
}
