package pidfile

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// uidOf returns the effective uid of a process, and reports whether the process has ended. uid is noUID if /proc does not show
// the process.
func uidOf(pid int) (uid int, ended bool) {
	if info, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
		return owner(info), false
	}
	return noUID, hasEnded(pid)
}

// hasEnded reports whether there is no process with this pid. It does not call os.FindProcess: the first call in a process
// forks, to find out what the kernel supports, and a candidate calls hasEnded while the service waits for it.
func hasEnded(pid int) bool { return unix.Kill(pid, 0) == unix.ESRCH }
