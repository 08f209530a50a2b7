package pidfile

import (
	"os"
	"strconv"
)

// uidOf returns the effective uid of a process, and whether the process has ended. The uid is noUID if /proc does
// not show the process.
func uidOf(pid int) (uid int, ended bool) {
	if info, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
		return owner(info), false
	}
	return noUID, hasEnded(pid)
}
