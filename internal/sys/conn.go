package sys

import "syscall"

// Shutdown ends both directions of a connection, whoever else has a descriptor of it.
func Shutdown(c syscall.Conn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(shutdownFD)
	}
}
