//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package drain

import (
	"net"
	"syscall"
)

// queued reports whether the kernel has something for the next Read: bytes, an end or an error. It peeks rather than
// ask for the number of bytes, since that is zero for an end too. A connection that is not a socket has no queue.
func queued(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	some := true
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		some = err != syscall.EAGAIN
	})
	return err != nil || some
}
