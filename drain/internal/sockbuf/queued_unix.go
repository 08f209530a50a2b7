//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sockbuf

import (
	"net"
	"syscall"
)

// Queued reports whether the kernel has something for the next Read: bytes, an end or an error. A closed connection counts
// as an error. Queued is false for a connection that is not a socket: such a connection has no queue.
//
// Queued peeks at the first byte. The number of bytes in the queue would not suffice: it is zero at an end as well.
func Queued(nc net.Conn) bool {
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
