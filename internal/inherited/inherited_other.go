//go:build unix && !linux

package inherited

import "syscall"

func isChannel(int) bool { return false }

// isInherited reports whether a descriptor is open. One that this program has opened before is close-on-exec anyway.
func isInherited(fd int) bool { return syscall.Fstat(fd, new(syscall.Stat_t)) == nil }
