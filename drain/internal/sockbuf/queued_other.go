//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package sockbuf

import "net"

// Queued reports whether the kernel has something for the next Read. On this system Queued does not ask the kernel and always
// returns false. So if a request has arrived and was not read when an idle connection is closed, the request is lost.
func Queued(net.Conn) bool { return false }
