//go:build unix && !linux

package inherited

import "syscall"

func isChannel(int) bool { return false }

// isInherited reports whether a descriptor is open. It may be one that the Go runtime has opened, which is close-on-exec
// already.
func isInherited(fd int) bool { return syscall.Fstat(fd, new(syscall.Stat_t)) == nil }
