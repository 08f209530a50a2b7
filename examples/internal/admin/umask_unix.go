//go:build unix

package admin

import "syscall"

// privateFiles makes new files, sockets included, accessible to this user alone until the function that it returns is
// called. A chmod afterwards would come too late for who connects in between.
func privateFiles() (restore func()) {
	old := syscall.Umask(0o177)
	return func() { syscall.Umask(old) }
}
