//go:build !linux

package sockbuf

import "net"

// Unsent returns how many written bytes the kernel of the peer has not acknowledged, but only on Linux. On this system Unsent
// always returns 0.
func Unsent(net.Conn) int { return 0 }
