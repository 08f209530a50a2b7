//go:build unix

package pidfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// openSafely opens a file without following a link, and without waiting for a writer of a FIFO.
const openSafely = syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY

// owner returns the uid of the owner of a file, or noUID.
func owner(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return noUID
}

// names returns how many hard links a file has.
func names(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Nlink)
	}
	return 1
}

// othersMayWrite reports whether every user may make files beside the file at path.
func othersMayWrite(path string) bool {
	dir, _ := filepath.Split(path)
	info, err := os.Stat(dir + ".")
	return err != nil || info.Mode()&0o002 != 0
}

// lock takes a lock, shared or not, that ends with the file, and reports whether somebody else has one that does not allow it.
func lock(f *os.File, shared bool) (taken bool) {
	how := map[bool]int{true: syscall.LOCK_SH, false: syscall.LOCK_EX}[shared]
	return errors.Is(syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
