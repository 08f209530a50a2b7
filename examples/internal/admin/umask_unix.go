//go:build unix

package admin

import "syscall"

// privateFiles makes new files, sockets included, accessible to the user of the process alone, until restore is called. A chmod
// afterwards would be too late: another user could connect in between.
func privateFiles() (restore func()) {
	old := syscall.Umask(0o177)
	return func() { syscall.Umask(old) }
}
