//go:build darwin || freebsd || netbsd

package follow

import (
	"os"
	"syscall"
)

// openFlag lets an open of a pipe return at once, if a pipe has replaced the file since its type was checked.
const openFlag = syscall.O_NONBLOCK

// changeTime returns the ctime in nanoseconds, or 0 if it is unknown.
func changeTime(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ctimespec.Nano()
	}
	return 0
}
