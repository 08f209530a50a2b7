//go:build unix

package sys

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

func ReceivedFiles(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // credentials or the like: not ours
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// Explain adds what to do to the errors that an operator meets.
func Explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.EIO):
		return fmt.Errorf("%w: is the file a complete program for %s/%s?", err, runtime.GOOS, runtime.GOARCH)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: raise the limit of open files (ulimit -n, LimitNOFILE)", err)
	case errors.Is(err, unix.ETXTBSY):
		return fmt.Errorf("%w: the file is still being written; write a new one and rename it", err)
	}
	return err
}

func FD(f *os.File) (fd uintptr) {
	raw, err := f.SyscallConn()
	if err != nil {
		return ^uintptr(0)
	}
	_ = raw.Control(func(n uintptr) { fd = n }) // not Fd(): it would make the descriptor blocking
	return fd
}

func shutdownFD(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }

func CloseFD(fd int) { _ = unix.Close(fd) }

// Duplicate copies the descriptor of c, close-on-exec, and tells which socket it is.
func Duplicate(c syscall.Conn) (fd int, inode uint64, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, 0, err
	}
	var dupErr error
	err = raw.Control(func(n uintptr) {
		fd, dupErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err = errors.Join(err, dupErr); err != nil {
		return -1, 0, Explain(fmt.Errorf("duplicate: %w", err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil {
		inode = uint64(st.Ino)
	}
	return fd, inode, nil
}

// DupFD returns another descriptor of what fd is, close-on-exec.
func DupFD(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3) }

// DupFile returns another descriptor of an open file.
func DupFile(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(FD(f), unix.F_DUPFD_CLOEXEC, 3)
	runtime.KeepAlive(f)
	if err != nil {
		return nil, Explain(fmt.Errorf("duplicate: %w", err))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// ConnFile returns another descriptor of a connection.
func ConnFile(c net.Conn) (*os.File, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T has no descriptor", c)
	}
	fd, _, err := Duplicate(sc)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "connection"), nil
}

// UnixPair makes the two ends of a connection between unix sockets.
func UnixPair() (net.Conn, *os.File, error) {
	fds, err := streamPair()
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fds[0]), "connection")
	defer file.Close()
	theirs := os.NewFile(uintptr(fds[1]), "connection")
	ours, err := net.FileConn(file)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}
