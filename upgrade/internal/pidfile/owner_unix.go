//go:build unix

package pidfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// openSafely has flags for os.OpenFile. With these flags the call does not follow a symbolic link, and does not wait for the
// writer of a FIFO.
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

// othersMayWrite reports whether every user may make files in the directory of path. If this is not known because of an error,
// the result is true.
//
// A directory in which a group may write, such as /run/app with mode 0775, does not count. Such a directory is common, and
// whoever set its mode trusts the members of the group with the files of the service. The owners of files and links are still
// compared: a member cannot make a file or link that belongs to root or to the service, so a pid file of the member's own is
// refused. But a member can give such a file another name in the directory.
func othersMayWrite(path string) bool {
	dir, _ := filepath.Split(path)
	info, err := os.Stat(dir + ".")
	return err != nil || info.Mode()&0o002 != 0
}

// lock locks the file until f is closed. The lock is shared if shared is true, and exclusive otherwise. If another process
// holds a lock that prevents the new lock, lock returns true at once and does not lock the file.
func lock(f *os.File, shared bool) (taken bool) {
	how := map[bool]int{true: syscall.LOCK_SH, false: syscall.LOCK_EX}[shared]
	return errors.Is(syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
