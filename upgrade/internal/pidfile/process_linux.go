package pidfile

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// uidOf returns the effective uid of a process, and whether the process has ended. The uid is noUID if /proc does
// not show the process.
func uidOf(pid int) (uid int, ended bool) {
	if info, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
		return owner(info), false
	}
	return noUID, hasEnded(pid)
}

// hasEnded reports whether there is no process with the pid. The first os.FindProcess of a process would fork, to learn what the
// kernel can do, and a candidate asks while the service waits for it.
func hasEnded(pid int) bool { return unix.Kill(pid, 0) == unix.ESRCH }
