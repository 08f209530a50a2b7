// Package sys is what the operating system gives to a process that hands its sockets to another one: descriptors,
// anonymous files, pairs of sockets. Linux has all of it. Other platforms return errors.ErrUnsupported for what is missing
// there, or do what is said here. Errors of functions that make a descriptor say what to do if there are too many ([Explain]).
//
// A descriptor is an int or a uintptr where it belongs to nobody, and an *os.File where the file owns it. Every function
// that returns one makes it close-on-exec, and the caller closes it. No function takes a descriptor over.
package sys

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"
)

// MaxFiles is how many descriptors a message between processes can carry.
const MaxFiles = 253 // Linux: SCM_MAX_FD

// FD returns the descriptor of f, which stays f's; the greatest number if f is closed. Unlike the method Fd, it does not
// make the descriptor blocking.
func FD(f *os.File) (fd uintptr) {
	fd = ^uintptr(0)
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(n uintptr) { fd = n }) // fails if f is closed
	}
	return fd
}

// CloseOnExec keeps a descriptor from the children of this process.
func CloseOnExec(fd int) { closeOnExec(fd) }

// CloseFD closes a descriptor without an os.File.
func CloseFD(fd int) { closeFD(fd) }

// DupFD returns another descriptor of the file of fd.
func DupFD(fd int) (int, error) { return dupFD(fd) }

// DupFile returns another descriptor of an open file, under the same name.
func DupFile(f *os.File) (*os.File, error) {
	fd, err := dupFD(int(FD(f)))
	runtime.KeepAlive(f)
	if err != nil {
		return nil, fmt.Errorf("duplicate: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Duplicate returns another descriptor of c, and the inode of the socket that c is; 0 if the inode is not known.
func Duplicate(c syscall.Conn) (fd int, inode uint64, err error) { return duplicate(c) }

// ConnFile returns another descriptor of a connection.
func ConnFile(c net.Conn) (*os.File, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T has no descriptor", c)
	}
	fd, _, err := duplicate(sc)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "connection"), nil
}

// FileConn makes a connection of a descriptor, which stays the caller's. On Linux the connection keeps the options that it had;
// package net would set some again.
func FileConn(file *os.File) (net.Conn, error) { return fileConn(file) }

// CopyKeepAlive gives a connection the keep-alive of its listener, as the kernel does; elsewhere than on Linux, none.
func CopyKeepAlive(to *net.TCPConn, from syscall.Conn) { copyKeepAlive(to, from) }

// Shutdown ends both directions of a connection, also for other processes with a descriptor of the connection.
func Shutdown(c syscall.Conn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(shutdownFD) // fails if c is closed
	}
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
		return nil, nil, explain(err)
	}
	return ours, theirs, nil
}

// MemFile makes a file without a name in a directory: in memory on Linux, and elsewhere a temporary file, which is removed at
// once. The name is for people who look at the process.
func MemFile(name string) (*os.File, error) { return memFile(name) }

// Seal makes a file of MemFile immutable, so that the reader need not fear a writer. Without memfd Seal does nothing: only two
// processes know the file.
func Seal(f *os.File) error { return seal(f) }

// CheckSeal returns an error for a file without the seals of Seal. Without memfd CheckSeal does nothing.
func CheckSeal(f *os.File) error { return checkSeal(f) }

// Empty takes the messages that wait in a socket of SocketPair, and closes their descriptors. Empty does not wait for more.
func Empty(socket *os.File) { empty(socket) }

// Readable reports whether a socket can be read, its end included, and takes nothing. Elsewhere than on Linux the result is
// true.
func Readable(fd uintptr) bool { return readable(fd) }

// MayWrite reports whether this process may change a directory, with the present rights of the process. Elsewhere than on Linux
// the result is false.
func MayWrite(dir string) bool { return mayWrite(dir) }

// Nohup reports whether this process was started by nohup, which ignores SIGHUP: the end of the terminal does not concern the
// program. A child of this process does not know of nohup.
func Nohup() bool { return nohup }

// Terminal is the terminal in which the process was started, if there is one.
type Terminal struct{ *watcher }

// WatchTerminal begins to look for the end of the terminal, until Close.
func WatchTerminal() *Terminal { return watchTerminal() }

// Ends reports whether a SIGHUP of this moment comes from the end of the terminal, and so asks for nothing. One that comes a second
// later does not. It is false for a process that was started without a terminal.
func (t *Terminal) Ends() bool { return t.watcher != nil && t.ends() }

// Close ends the watching.
func (t *Terminal) Close() {
	if t.watcher != nil {
		t.close()
	}
}

// Uptime is the time since the machine was started, or since a while after, by a clock that cannot be set and is the same in
// all processes. On Windows, where no two processes of a service meet, Uptime is the time since the start of this process.
func Uptime() time.Duration { return uptime() }

// TooManyFiles reports whether the reason of an error is that this process, or the machine, has no descriptor left.
func TooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Explain adds advice to the errors of an operator, and returns other errors unchanged.
func Explain(err error) error { return explain(err) }
