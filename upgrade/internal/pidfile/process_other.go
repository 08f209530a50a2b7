//go:build !linux

package pidfile

// uidOf returns nobody, and whether the process has ended.
func uidOf(pid int) (uid int, ended bool) { return nobody, hasEnded(pid) }
