//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sockbuf

import (
	"net"
	"syscall"
)

// Queued reports whether the kernel has something for the next Read: bytes, an end or an error. A closed connection counts as
// an error. For a connection that is not a socket, Queued returns false: such a connection has no queue.
//
// Queued peeks at the first byte. It does not ask for the number of bytes in the queue, because the number is zero in two
// cases: nothing has come, or the peer has closed.
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
