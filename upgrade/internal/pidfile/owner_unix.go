//go:build unix

package pidfile

import (
	"os"
	"syscall"
)

// owner returns the uid that a file belongs to; nobody if it is not known.
func owner(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return nobody
}
