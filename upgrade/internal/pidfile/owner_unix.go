//go:build unix

package pidfile

import (
	"os"
	"path/filepath"
	"syscall"
)

// openSafely opens a file without following a link, and without waiting for a writer of a FIFO.
const openSafely = syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY

// owner returns the uid that a file belongs to; nobody if it is not known.
func owner(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return nobody
}

// names returns how many hard links a file has.
func names(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Nlink)
	}
	return 1
}

// othersMayWrite reports whether everybody may make files beside the one at path.
func othersMayWrite(path string) bool {
	dir, _ := filepath.Split(path)
	info, err := os.Stat(dir + ".")
	return err != nil || info.Mode()&0o002 != 0
}
