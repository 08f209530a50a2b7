//go:build unix && !linux

package upgrade

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketPair makes the two ends of a control socket, both close-on-exec.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := streamPair()
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// streamPair makes two connected stream sockets, both close-on-exec.
func streamPair() (fds [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return fds, fmt.Errorf("socketpair: %w", err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		_ = unix.SetNonblock(fd, true)
	}
	return fds, nil
}

// memFile makes a file without a name: there is no memfd here.
func memFile(name string) (*os.File, error) {
	f, err := os.CreateTemp("", name)
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// seal does nothing: a file without a name is known to the two processes only, and the checksum guards its content.
func seal(*os.File) error { return nil }

func checkSeal(*os.File) error { return nil }

const canRunDescriptor = false

func openSelf() (*os.File, error) { return nil, errors.ErrUnsupported }

func executableOf(int) string { return "" }

func descriptorPath(uintptr, bool) string { return "" }

func restoreName() {}

func readable(uintptr) bool { return true }

// mayWrite makes the file be staged again: that shows it.
func mayWrite(string) bool { return false }

func catches(int, syscall.Signal) bool { return true }

func inheritedFDs() map[uint64][]int { return nil }

// coverFDs does nothing: without /proc a duplicate cannot be found, so a listener ends with the process.
func coverFDs(uint64, []int) {}
