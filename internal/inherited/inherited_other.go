//go:build unix && !linux

package inherited

import "syscall"

func isChannel(int) bool { return false }

// isInherited reports whether a descriptor is open. The result is true even if the Go runtime has opened the descriptor. This
// does no harm, because such a descriptor is close-on-exec already.
func isInherited(fd int) bool { return syscall.Fstat(fd, new(syscall.Stat_t)) == nil }
