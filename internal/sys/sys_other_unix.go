//go:build unix && !linux

package sys

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// SocketPair returns two connected sockets. On this system the sockets do not preserve the boundaries of messages.
func SocketPair() (ours, theirs *os.File, err error) {
	fds, err := streamPair()
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// streamPair returns two connected stream sockets, both close-on-exec.
func streamPair() (fds [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return fds, explain(fmt.Errorf("socketpair: %w", err))
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		_ = unix.SetNonblock(fd, true)
	}
	return fds, nil
}

// memFile makes a temporary file and removes it at once: this system has no memfd.
func memFile(name string) (*os.File, error) {
	f, err := os.CreateTemp("", name)
	if err != nil {
		return nil, explain(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func seal(*os.File) error { return nil }

func checkSeal(*os.File) error { return nil }

func readable(uintptr) bool { return true }

// mayWrite returns false, because the answer is not known: the caller has to try a change to find out.
func mayWrite(string) bool { return false }

func fileConn(file *os.File) (net.Conn, error) { return net.FileConn(file) }

func copyKeepAlive(to *net.TCPConn, _ syscall.Conn) { _ = to.SetKeepAlive(false) } // fails if the connection is closed
