//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package sockbuf

import "net"

// Queued reports whether the kernel has something for the next Read. On this system the kernel is not asked, and the
// answer is always false: a request that arrives in the instant in which an idle connection is closed is lost.
func Queued(net.Conn) bool { return false }
