//go:build !linux

package pidfile

// uidOf returns noUID, and whether the process has ended.
func uidOf(pid int) (uid int, ended bool) { return noUID, hasEnded(pid) }
