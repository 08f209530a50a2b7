package sys

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// HasInput reports whether a descriptor is readable. A pidfd becomes readable when its process has ended.
func HasInput(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// SocketPair returns two connected sockets that preserve the boundaries of messages.
func SocketPair() (ours, theirs *os.File, err error) {
	fds, err := pair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

func streamPair() ([2]int, error) { return pair(unix.SOCK_STREAM) }

func pair(kind int) ([2]int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return fds, explain(os.NewSyscallError("socketpair", err))
}

func memFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, explain(os.NewSyscallError("memfd_create", err))
	}
	return os.NewFile(uintptr(fd), name), nil
}

const sealed = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

func seal(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, sealed); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

func checkSeal(f *os.File) error {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if seals&sealed != sealed {
		return fmt.Errorf("the file is not sealed (seals %#x)", seals)
	}
	return nil
}

func readable(fd uintptr) bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err != unix.EAGAIN && err != unix.EINTR
}

func mayWrite(dir string) bool {
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS) == nil
}

// tcpOptions are the options that package net sets when it makes a connection of a file.
var tcpOptions = [...][2]int{
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE},
	{unix.IPPROTO_TCP, unix.TCP_NODELAY},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
}

func fileConn(file *os.File) (net.Conn, error) {
	var had [len(tcpOptions)]int
	var err error
	for i, o := range tcpOptions {
		if had[i], err = unix.GetsockoptInt(int(FD(file)), o[0], o[1]); err != nil {
			break // the socket is not a TCP socket
		}
	}
	c, netErr := net.FileConn(file)
	if netErr != nil || err != nil {
		return c, netErr
	}
	sets := netSets(file)
	for i, o := range tcpOptions {
		if had[i] != sets[i] {
			_ = unix.SetsockoptInt(int(FD(file)), o[0], o[1], had[i]) // cannot fail: the socket had this value before
		}
	}
	return c, nil
}

var netValues struct {
	once sync.Once
	all  [len(tcpOptions)]int
}

// netSets returns the values to which package net sets tcpOptions: those that the file has after the first call of net.FileConn.
func netSets(file *os.File) [len(tcpOptions)]int {
	netValues.once.Do(func() {
		for i, o := range tcpOptions {
			netValues.all[i], _ = unix.GetsockoptInt(int(FD(file)), o[0], o[1])
		}
	})
	return netValues.all
}

func copyKeepAlive(to *net.TCPConn, from syscall.Conn) {
	had := tcpOptions
	read, err := from.SyscallConn()
	if err != nil {
		return
	}
	_ = read.Control(func(fd uintptr) { // Control fails if the listener is closed
		for i, o := range tcpOptions {
			had[i][1], _ = unix.GetsockoptInt(int(fd), o[0], o[1])
		}
	})
	raw, err := to.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // Control fails if the connection is closed
		for i, o := range tcpOptions {
			if o[1] != unix.TCP_NODELAY || o[0] != unix.IPPROTO_TCP {
				_ = unix.SetsockoptInt(int(fd), o[0], o[1], had[i][1])
			}
		}
	})
}
