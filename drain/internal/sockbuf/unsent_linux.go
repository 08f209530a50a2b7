package sockbuf

import (
	"net"
	"syscall"
	"unsafe"
)

// Unsent returns how many written bytes the kernel of the peer has not acknowledged. Unsent returns 0 for a connection that
// is closed, or was reset, or is not a socket.
func Unsent(nc net.Conn) int {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	var n int32
	raw.Control(func(fd uintptr) {
		_, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
		// After a reset, which shows as ENOTCONN, the kernel still counts bytes that it has dropped.
		if _, err := syscall.Getpeername(int(fd)); e != 0 || err == syscall.ENOTCONN {
			n = 0
		}
	})
	return int(n)
}
