package subprocess

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkPeer returns an error if the process at the other end of a unix socket belongs to another user.
func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if failed != nil {
		return os.NewSyscallError("getsockopt", failed)
	}
	if uid := os.Geteuid(); int(cred.Uid) != uid {
		return fmt.Errorf("subprocess: process %d at the other end of a socket belongs to user %d, and this process to user %d", cred.Pid, cred.Uid, uid)
	}
	return nil
}

// claim locks a file for this process. The lock ends with the process, and a fork does not inherit the lock.
func claim(f *os.File) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	return os.NewSyscallError("fcntl", unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock))
}

// claimedBy returns the pid of the process that has locked a file by claim, or 0.
func claimedBy(f *os.File) (pid int, err error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, os.NewSyscallError("fcntl", err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}

// ownerOf returns the user to whom a file belongs.
func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// killedBeforeHost makes this process one that the kernel kills before its host if memory runs out, if this process may do so.
// The value is not 1000, which is that of the candidate of an upgrade.
func killedBeforeHost() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("999"), 0) }

// onto makes the descriptor of to be the file from.
func onto(from, to *os.File) error {
	return os.NewSyscallError("dup3", unix.Dup3(int(from.Fd()), int(to.Fd()), 0))
}

// executable returns a file in memory that may be executed.
func executable(name string) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 each such file may be executed
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
