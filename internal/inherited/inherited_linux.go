package inherited

import "syscall"

func isChannel(fd int) bool {
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil || kind != syscall.SOCK_SEQPACKET {
		return false
	}
	maker, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	return err == nil && int(maker.Pid) == syscall.Getppid()
}

// isInherited reports whether a descriptor was open before the program was executed. The result is false for descriptors that
// the Go runtime has opened, because these are close-on-exec.
func isInherited(fd int) bool {
	flags, _, err := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	return err == 0 && flags&syscall.FD_CLOEXEC == 0
}
