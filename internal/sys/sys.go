// Package sys contains the functions of the operating system for a process that passes its sockets to another process:
// descriptors, files without a name, pairs of sockets. Linux supports all functions. On other systems a function that is not
// supported returns errors.ErrUnsupported, or does what its comment says. If there are too many open files, the error of a
// function that makes a descriptor says what to do ([Explain]).
//
// A descriptor is an *os.File if the file owns it, and otherwise an int or a uintptr. Every descriptor that a function returns
// is close-on-exec, and the caller closes it. No function becomes the owner of a descriptor that is passed to it.
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

// FD returns the descriptor of f, which f still owns. If f is closed, FD returns the greatest number of the type. Unlike the
// method Fd, FD does not make the descriptor blocking.
func FD(f *os.File) (fd uintptr) {
	fd = ^uintptr(0)
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(n uintptr) { fd = n }) // fails if f is closed
	}
	return fd
}

// CloseOnExec makes a descriptor close-on-exec, so that programs started by this process do not inherit it.
func CloseOnExec(fd int) { closeOnExec(fd) }

// CloseFD closes a descriptor that no os.File owns.
func CloseFD(fd int) { closeFD(fd) }

// DupFD returns another descriptor of the open file that fd refers to.
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

// Duplicate returns another descriptor of the socket c, and the inode number of the socket. The inode number is 0 if it is not
// known.
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

// FileConn returns a connection for the socket of a file. The caller still owns the file, and closes it. On Linux FileConn
// keeps the options of the socket, although package net changes some of them.
func FileConn(file *os.File) (net.Conn, error) { return fileConn(file) }

// CopyKeepAlive copies the keep-alive options of a listener to a connection, as the kernel does when it accepts a connection.
// On other systems than Linux CopyKeepAlive switches keep-alive off.
func CopyKeepAlive(to *net.TCPConn, from syscall.Conn) { copyKeepAlive(to, from) }

// Shutdown ends both directions of a connection, also for other processes with a descriptor of the connection.
func Shutdown(c syscall.Conn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(shutdownFD) // fails if c is closed
	}
}

// UnixPair returns the two ends of a connection of unix sockets.
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

// MemFile makes a file that is in no directory: on Linux a file in memory, and on other systems a temporary file that is
// removed at once. The name is only for people who look at the open files of the process.
func MemFile(name string) (*os.File, error) { return memFile(name) }

// Seal makes a file of MemFile immutable, so that its content cannot change while another process reads it. On other systems
// than Linux Seal does nothing. There the file is safe as long as no third process has it open.
func Seal(f *os.File) error { return seal(f) }

// CheckSeal returns an error if the file was not made immutable by Seal. On other systems than Linux CheckSeal returns nil.
func CheckSeal(f *os.File) error { return checkSeal(f) }

// Empty reads the messages that wait in a socket of SocketPair, and closes the descriptors in them. Empty does not wait for
// more messages.
func Empty(socket *os.File) { empty(socket) }

// Readable reports whether a read from a socket would return at once: with data, with an error, or with the end of the data.
// Readable leaves the data in the socket. On other systems than Linux the result is true.
func Readable(fd uintptr) bool { return readable(fd) }

// MayWrite reports whether this process, with its present rights, may create and remove files in a directory. On other
// systems than Linux the result is false.
func MayWrite(dir string) bool { return mayWrite(dir) }

// Nohup reports whether this process was started with SIGHUP ignored. The command nohup starts a program in this way, so that
// the program goes on when its terminal ends. In a child of this process the result may be false, since this process may have
// caught SIGHUP.
func Nohup() bool { return nohup }

// Terminal is the terminal in which the process was started, if there is one.
type Terminal struct{ *watcher }

// WatchTerminal begins to wait for the end of the terminal, until Close is called.
func WatchTerminal() *Terminal { return watchTerminal() }

// Ends reports whether a SIGHUP that is received now probably comes from the end of the terminal. Such a SIGHUP does not ask
// for an upgrade. The result is true if the terminal is ending, or has ended less than a second ago. The result is false in a
// process that was started without a terminal.
func (t *Terminal) Ends() bool { return t.watcher != nil && t.ends() }

// Close ends the wait for the end of the terminal.
func (t *Terminal) Close() {
	if t.watcher != nil {
		t.close()
	}
}

// Uptime returns the time since the start of the machine, approximately. The clock is the same for all processes of the
// machine, and cannot be set. On Windows, where a service has only one process, Uptime returns the time since the start of this
// process.
func Uptime() time.Duration { return uptime() }

// TooManyFiles reports whether the cause of an error is that this process, or the machine, has no descriptor left.
func TooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Explain adds advice to an error if an operator can remove the cause. It returns any other error unchanged.
func Explain(err error) error { return explain(err) }
