package pidfile

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// uidOf returns the effective uid of a process. If /proc does not show the process, uid is noUID, and ended reports whether the
// process has ended.
func uidOf(pid int) (uid int, ended bool) {
	if info, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
		return owner(info), false
	}
	return noUID, hasEnded(pid)
}

// hasEnded reports whether there is no process with this pid. It does not call os.FindProcess, because the first call of
// os.FindProcess forks, to find out what the kernel supports. That takes time, and the old process waits for a candidate that
// calls hasEnded.
func hasEnded(pid int) bool { return unix.Kill(pid, 0) == unix.ESRCH }
