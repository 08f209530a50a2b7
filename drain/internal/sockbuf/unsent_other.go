//go:build !linux

package sockbuf

import "net"

// Unsent always returns 0 on this system. On Linux it returns how many written bytes the kernel of the peer has not
// acknowledged.
func Unsent(net.Conn) int { return 0 }
