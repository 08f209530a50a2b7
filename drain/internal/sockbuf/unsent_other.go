//go:build !linux

package sockbuf

import "net"

// Unsent returns how many written bytes the kernel of the peer has not acknowledged. Only the kernel of Linux is asked:
// on this system Unsent is always 0.
func Unsent(net.Conn) int { return 0 }
